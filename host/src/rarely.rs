//! What is said in the log now and then, and not each time that it happens.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long nothing is said after something was.
const INTERVAL: Duration = Duration::from_secs(10);

/// When it was said last.
#[derive(Default)]
pub(crate) struct Rarely(Mutex<Option<Instant>>);

impl Rarely {
    /// Says it, unless that was just done.
    pub(crate) fn say(&self, say: impl FnOnce()) {
        let mut last = self.0.lock();
        if last.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        say();
    }
}
