//! Memory that many share: the broadcasts of all namespaces, or the events to all single connections.
//!
//! All together never take more than there is. Each may take up to a level, which is set so high that
//! those who take little lose nothing to those who take much: whoever takes less than the level keeps
//! all, and the others share the rest evenly.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// So much of it, one part of so many, is left for those who begin to take some.
const RESERVE: usize = 8;

/// What one wants that had to do with less than its level.
pub(super) const MORE: usize = usize::MAX;

/// So many bytes for all.
#[derive(Debug)]
pub struct Pool {
    bytes: usize,
    /// What one may take at most, however much there is.
    most: usize,
    used: AtomicUsize,
    level: AtomicUsize,
    /// What each wants, for [`Pool::share_out`].
    takers: Mutex<Vec<usize>>,
}

impl Pool {
    /// A pool of so many bytes, of which nobody gets more than `most`.
    pub fn new(bytes: usize, most: usize) -> Self {
        Self {
            bytes,
            most: most.min(bytes),
            used: AtomicUsize::new(0),
            level: AtomicUsize::new(most.min(bytes)),
            takers: Mutex::default(),
        }
    }

    /// What each may take.
    pub fn level(&self) -> usize {
        self.level.load(Ordering::Relaxed)
    }

    /// Somebody takes so many bytes. If there are not so many, it has to give some back at once.
    pub fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Somebody gives back so many bytes.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more is taken than there is.
    pub fn is_overdrawn(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bytes
    }

    /// Whether it is worth a look at what each takes.
    pub fn is_scarce(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bytes / 2
    }

    /// Notes what some take, or [`MORE`].
    pub fn note(&self, takers: impl IntoIterator<Item = usize>) {
        self.takers.lock().extend(takers);
    }

    /// Sets the level by what was noted since the last time.
    pub fn share_out(&self) {
        let takers = std::mem::take(&mut *self.takers.lock());
        let level = match self.is_scarce() {
            true => level(self.bytes - self.bytes / RESERVE, takers, self.level()),
            false => self.bytes,
        };
        self.level.store(level.min(self.most), Ordering::Relaxed);
    }
}

/// The level up to which takers of so much fit into `bytes`. Those that are near the `former` level
/// would take more.
fn level(bytes: usize, mut takers: Vec<usize>, former: usize) -> usize {
    takers.sort_unstable();
    let mut left = bytes;
    for (index, taken) in takers.iter().copied().enumerate() {
        let share = left / (takers.len() - index);
        if taken > share || taken > former - former / 4 {
            return share;
        }
        left -= taken;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn who_takes_little_keeps_it_and_the_others_share_the_rest() {
        for (takers, former, expected) in [
            (vec![], 800, 800),
            (vec![100, 200], 800, 800),
            (vec![100, 100, 700], 800, 600),
            (vec![300, 10, 400, 500, 10], 800, 260),
            // One is new, and could take nothing yet.
            (vec![700, MORE], 700, 400),
            // It is at its level, and would take more.
            (vec![100, 260, 260], 260, 350),
            (vec![900; 4], 800, 200),
        ] {
            assert_eq!(level(800, takers.clone(), former), expected, "{takers:?}");
        }
    }

    proptest! {
        #[test]
        fn all_fit_at_their_level(takers in vec(0..1000_usize, 0..50), former in 0..1000_usize) {
            let level = level(1000, takers.clone(), former);
            let taken: usize = takers.iter().map(|taken| *taken.min(&level)).sum();
            prop_assert!(taken <= 1000);
        }
    }
}
