//! So many bytes, counted by a call and by what goes on beside it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::OverBudget;
use crate::guest::Error;

/// How many bytes may be used of what the key `budget` in `mixlab.toml` allows, and how many are.
#[derive(Debug)]
pub(super) struct ByteBudget {
    budget: &'static str,
    allowed: usize,
    used: AtomicUsize,
}

impl ByteBudget {
    /// Nothing used yet.
    pub(super) fn new(budget: &'static str, allowed: usize) -> Self {
        Self {
            budget,
            allowed,
            used: AtomicUsize::new(0),
        }
    }

    /// The same, of which nothing is used.
    pub(super) fn afresh(&self) -> Self {
        Self::new(self.budget, self.allowed)
    }

    /// Forgets what was used. Nobody else may be using it.
    pub(super) fn reset(&mut self) {
        *self.used.get_mut() = 0;
    }

    /// How many bytes are used.
    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// How many bytes may still be used.
    pub(super) fn left(&self) -> usize {
        self.allowed.saturating_sub(self.used())
    }

    /// Counts bytes that the guest uses, whose call fails if they are too many.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), OverBudget> {
        let used = self.used.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if used > self.allowed {
            return Err(self.over());
        }
        Ok(())
    }

    /// Counts bytes of others, if there is room for them: how many they are is not the guest's doing, so
    /// they do not fail its call.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Error> {
        let wanted = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.allowed);
        let taken = self.used.fetch_update(Relaxed, Relaxed, wanted);
        taken.map(|_| ()).map_err(|_| self.full())
    }

    /// Bytes that were taken are free again.
    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// What a guest is told of that for which there is no room.
    pub(super) fn full(&self) -> Error {
        let OverBudget { budget, allowed } = self.over();
        Error::OverBudget(format!("{budget} = {allowed}"))
    }

    fn over(&self) -> OverBudget {
        OverBudget::bytes(self.budget, self.allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_send_is_taken_where_it_fits_and_counts_then_only() {
        let budget = ByteBudget::new("boundary", 10);
        assert!(budget.take(6).is_ok());
        assert!(
            matches!(budget.take(5), Err(Error::OverBudget(text)) if text == "boundary = 10 B")
        );
        assert!(budget.take(usize::MAX).is_err());
        assert_eq!((budget.used(), budget.left()), (6, 4));
        budget.give_back(6);
        assert!(budget.take(10).is_ok());
    }

    #[test]
    fn what_the_guest_sends_counts_also_where_it_fails_the_call() {
        let budget = ByteBudget::new("boundary", 10);
        assert!(budget.charge(10).is_ok());
        assert!(budget.charge(1).is_err());
        assert_eq!((budget.used(), budget.left()), (11, 0));
        assert!(budget.take(0).is_err());
    }
}
