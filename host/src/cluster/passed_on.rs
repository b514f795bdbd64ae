//! What was passed on to the servers that have the sessions, counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts.
#[derive(Debug, Default)]
pub(crate) struct PassedOn {
    answered: AtomicU64,
    failed: AtomicU64,
    websockets: AtomicUsize,
}

/// How many there are, and were since the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassedOnSample {
    /// Requests that the other server has answered.
    pub answered: u64,
    /// Requests whose server is gone, or did not answer.
    pub failed: u64,
    /// Websockets that are carried now.
    pub websockets: usize,
}

/// A websocket that is carried.
pub(crate) struct Carried<'a>(&'a PassedOn);

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        self.0.websockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PassedOn {
    /// A request was passed on; whether it was answered.
    pub(crate) fn count(&self, is_answered: bool) {
        let counter = match is_answered {
            true => &self.answered,
            false => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A websocket is carried until what is returned is dropped.
    pub(crate) fn carry(&self) -> Carried<'_> {
        self.websockets.fetch_add(1, Ordering::Relaxed);
        Carried(self)
    }

    /// How it stands.
    pub(super) fn sample(&self) -> PassedOnSample {
        PassedOnSample {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            websockets: self.websockets.load(Ordering::Relaxed),
        }
    }
}
