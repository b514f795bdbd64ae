//! Pauses a plugin that keeps failing, and tries it again after a while.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::config::{self, OnFailure};

/// Counts the failed calls of one plugin generation.
pub struct Breaker {
    config: config::Breaker,
    on_failure: OnFailure,
    /// Failed calls since the last good one.
    failures: AtomicU32,
    /// Locked on failures and during pauses only.
    pause: Mutex<Pause>,
}

#[derive(Default)]
struct Pause {
    /// None: no pause. While there is one, calls are refused until it is over; then one is tried.
    until: Option<Instant>,
    /// How long the last one was.
    length: Duration,
    trial: bool,
    disabled: bool,
}

/// Why a call is refused before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// It is worth trying again after so long.
    For(Duration),
    /// Not before the plugin changes.
    Disabled,
}

impl Breaker {
    /// No failures yet.
    pub fn new(config: config::Breaker, on_failure: OnFailure) -> Self {
        Self {
            config,
            on_failure,
            failures: AtomicU32::new(0),
            pause: Mutex::default(),
        }
    }

    /// Whether a call may be made now.
    pub fn admit(&self) -> Result<(), Paused> {
        if !self.may_be_paused() {
            return Ok(());
        }
        self.admit_at(Instant::now())
    }

    /// A call was answered.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            *self.pause.lock().expect("no holder panics") = Pause::default();
        }
    }

    /// A call failed; true if this starts a pause.
    pub fn failed(&self) -> bool {
        self.failed_at(Instant::now())
    }

    /// Whether it is paused now, for `plugin list`.
    pub fn paused(&self) -> Option<Paused> {
        if !self.may_be_paused() {
            return None;
        }
        let pause = self.pause.lock().expect("no holder panics");
        if pause.disabled {
            return Some(Paused::Disabled);
        }
        pause
            .until
            .map(|until| Paused::For(until.saturating_duration_since(Instant::now())))
    }

    /// Without a lock, for the path of every event.
    fn may_be_paused(&self) -> bool {
        self.config.failures != 0 && self.failures.load(Ordering::Relaxed) >= self.config.failures
    }

    fn admit_at(&self, now: Instant) -> Result<(), Paused> {
        let mut pause = self.pause.lock().expect("no holder panics");
        if pause.disabled {
            return Err(Paused::Disabled);
        }
        match pause.until {
            None => Ok(()),
            Some(until) if now < until => Err(Paused::For(until - now)),
            // Half open: one call shows how it is, the others wait for what it says.
            Some(_) if pause.trial => Err(Paused::For(pause.length)),
            Some(_) => {
                pause.trial = true;
                Ok(())
            }
        }
    }

    fn failed_at(&self, now: Instant) -> bool {
        let failures = self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        if self.config.failures == 0 || failures < self.config.failures {
            return false;
        }
        let mut pause = self.pause.lock().expect("no holder panics");
        // Calls that were under way when the pause began add nothing to it.
        if pause.until.is_some_and(|until| now < until) {
            return false;
        }
        let doubled = pause.length.saturating_mul(2);
        pause.length = doubled.clamp(self.config.pause, self.config.max_pause);
        pause.until = Some(now + pause.length);
        pause.trial = false;
        pause.disabled = self.on_failure == OnFailure::Disable;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn breaker(on_failure: OnFailure) -> Breaker {
        let config = config::Breaker {
            failures: 3,
            pause: PAUSE,
            max_pause: PAUSE * 3,
        };
        Breaker::new(config, on_failure)
    }

    fn fail(breaker: &Breaker, times: u32, now: Instant) -> Vec<bool> {
        (0..times).map(|_| breaker.failed_at(now)).collect()
    }

    #[test]
    fn failures_in_a_row_pause_and_a_good_call_ends_it() {
        let (breaker, now) = (breaker(OnFailure::Reject), Instant::now());
        assert_eq!(fail(&breaker, 2, now), [false, false]);
        breaker.succeeded();
        assert_eq!(fail(&breaker, 3, now), [false, false, true]);
        assert_eq!(breaker.admit_at(now), Err(Paused::For(PAUSE)));
        assert_eq!(breaker.admit_at(now + PAUSE), Ok(()), "one is tried");
        assert_eq!(
            breaker.admit_at(now + PAUSE),
            Err(Paused::For(PAUSE)),
            "and no other"
        );
        breaker.succeeded();
        assert_eq!(breaker.admit(), Ok(()));
    }

    #[test]
    fn each_failed_trial_doubles_the_pause_up_to_the_longest() {
        let (breaker, mut now) = (breaker(OnFailure::Reject), Instant::now());
        fail(&breaker, 3, now);
        for expected in [PAUSE * 2, PAUSE * 3, PAUSE * 3] {
            now += PAUSE * 4;
            assert_eq!(breaker.admit_at(now), Ok(()));
            assert!(breaker.failed_at(now));
            assert_eq!(breaker.admit_at(now), Err(Paused::For(expected)));
        }
    }

    #[test]
    fn calls_under_way_do_not_lengthen_a_pause() {
        let (breaker, now) = (breaker(OnFailure::Reject), Instant::now());
        assert_eq!(
            fail(&breaker, 6, now)
                .iter()
                .filter(|paused| **paused)
                .count(),
            1
        );
        assert_eq!(breaker.admit_at(now), Err(Paused::For(PAUSE)));
    }

    #[test]
    fn a_plugin_may_be_switched_off_instead() {
        let (breaker, now) = (breaker(OnFailure::Disable), Instant::now());
        fail(&breaker, 3, now);
        assert_eq!(breaker.admit_at(now + PAUSE * 9), Err(Paused::Disabled));
    }

    #[test]
    fn zero_failures_never_pause() {
        let config = config::Breaker {
            failures: 0,
            pause: PAUSE,
            max_pause: PAUSE,
        };
        let breaker = Breaker::new(config, OnFailure::Reject);
        assert!(!fail(&breaker, 100, Instant::now()).contains(&true));
        assert_eq!(breaker.admit(), Ok(()));
    }
}
