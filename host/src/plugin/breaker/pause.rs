//! A time in which no calls are made, and the call that is tried after it.

use std::time::{Duration, Instant};

use crate::config;

/// One pause, which grows as long as what is tried after it fails.
#[derive(Debug)]
pub(super) struct Pause {
    until: Instant,
    length: Duration,
    /// A call is being tried.
    trial: bool,
}

impl Pause {
    /// The first and shortest.
    pub(super) fn begin(now: Instant, config: &config::Breaker) -> Self {
        Self {
            until: now + config.pause,
            length: config.pause,
            trial: false,
        }
    }

    /// How long calls are refused still; none if one may be tried.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        (now < self.until).then(|| self.until - now)
    }

    /// When one may be tried.
    pub(super) fn ends(&self) -> Instant {
        self.until
    }

    /// Half open: one call shows how it is. The others wait for what it says, but not for ever,
    /// since it may never say anything.
    pub(super) fn try_one(&mut self, now: Instant) {
        self.trial = true;
        self.until = now + self.length;
    }

    /// A call failed; true if that makes the pause longer. Calls that were under way when it began
    /// add nothing to it.
    pub(super) fn failed(&mut self, now: Instant, config: &config::Breaker) -> bool {
        if !self.trial && self.left(now).is_some() {
            return false;
        }
        self.length = self.length.saturating_mul(2).min(config.max_pause);
        self.until = now + self.length;
        self.trial = false;
        true
    }

    /// Whether nothing was tried for so long that it may be forgotten.
    pub(super) fn is_long_over(&self, now: Instant, config: &config::Breaker) -> bool {
        now >= self.until + config.max_pause
    }
}
