//! The polls of one session, by their numbers: some are sent back before there is a packet.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// The polls that have begun, and which of them are to go back.
#[derive(Default)]
pub struct Polls {
    /// The number of the next one.
    begun: AtomicU64,
    /// Those before this one go back.
    released: AtomicU64,
    changed: Notify,
}

impl Polls {
    /// A poll has come; returns its number.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel)
    }

    /// The number of the next one.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Sends back the polls before this number.
    pub fn release(&self, before: u64) {
        self.released.fetch_max(before, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Waits until the poll with this number is to go back.
    pub async fn released(&self, number: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if number < self.released.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_polls_before_a_number_go_back() {
        let polls = Polls::default();
        let (first, second) = (polls.begin(), polls.begin());
        let mut waiting = [first, second].map(|number| Box::pin(polls.released(number)));
        let mut went = || waiting.each_mut().map(|poll| poll.now_or_never().is_some());
        assert_eq!(went(), [false, false]);
        polls.release(second);
        polls.release(first);
        assert_eq!(went(), [true, false]);
        let third = polls.begin();
        polls.release(polls.begun());
        assert!(polls.released(third).now_or_never().is_some());
        assert!(polls.released(polls.begin()).now_or_never().is_none());
    }
}
