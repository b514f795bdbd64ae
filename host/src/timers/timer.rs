//! One timer, as it is stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::JUMP;
use crate::{
    clock::now,
    store::{Bucket, Key, Value},
};

/// A timer that has failed so often is given up.
const MAX_ATTEMPTS: u32 = 10;

/// Longer names are refused.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// A larger payload is refused: what is large belongs into the store.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 64 << 10;

/// The pause after the first failure. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Where the timers of a plugin are: those that its calls set, and those that it declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Set by calls.
    Set,
    /// Declared.
    Declared,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Set, Self::Declared];

    fn word(self) -> &'static str {
        match self {
            Self::Set => "timers",
            Self::Declared => "schedules",
        }
    }
}

/// Which kind of timer a key is for, and whose; none if it is for none.
pub(crate) fn owner(key: &Key) -> Option<(Kind, &str)> {
    let of_kind = |kind| {
        let prefix = bucket(kind, "");
        let name = key.bucket_name().strip_prefix(prefix.as_str())?;
        Some((kind, name))
    };
    Kind::ALL.into_iter().find_map(of_kind)
}

/// The bucket of a plugin's timers of a kind.
pub(crate) fn bucket(kind: Kind, plugin: &str) -> Bucket {
    Bucket::of_host(kind.word(), plugin)
}

/// A timer. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When it is due, as was meant.
    pub due: u64,
    /// When it is tried next: at `due`, or later after failures.
    pub at: u64,
    /// What the clock showed when that was counted from it; none if it was said as a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// JSON text.
    pub payload: String,
    /// It is due again after so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// It waits for its turn among calls with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// How often it has failed since it was due.
    #[serde(default)]
    pub failures: u32,
    /// It is tried no more.
    #[serde(default)]
    pub given_up: bool,
    /// The rule that it was declared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl Timer {
    /// One that is due then.
    pub fn new(due: u64, payload: String) -> Self {
        Self {
            due,
            at: due,
            since: None,
            payload,
            every: None,
            serial: None,
            failures: 0,
            given_up: false,
            rule: None,
        }
    }

    /// As it is stored.
    pub fn to_value(&self) -> Value {
        let json = serde_json::to_vec(self).expect("it has nothing that JSON has not");
        Value {
            bytes: json.into(),
            expires: None,
        }
    }

    /// From what is stored.
    pub fn of_value(value: &Value) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&value.bytes)
    }

    /// What is left of it when it has been answered: the same, due again; or nothing.
    pub fn answered(&self) -> Option<Self> {
        let every = self.every?;
        let now = now();
        // Of the times that have passed meanwhile, it was called for all at once.
        let passed = now.saturating_sub(self.due) / every;
        let due = match self.is_of_a_former_clock(now) {
            true => now.saturating_add(every),
            false => self.due.saturating_add(every.saturating_mul(passed + 1)),
        };
        Some(Self::due_again(self, due))
    }

    /// Whether it was called before the clock has gone back, and is due at a time that is to come again.
    pub fn is_of_a_former_clock(&self, now: u64) -> bool {
        self.due.saturating_sub(now) > JUMP.as_millis() as u64
    }

    /// The same, due then.
    pub fn due_again(&self, due: u64) -> Self {
        Self {
            due,
            at: due,
            since: Some(now()),
            failures: 0,
            given_up: false,
            ..self.clone()
        }
    }

    /// The same, where the clock has gone back since it was set: it is waited for as long as was meant.
    /// None if it has not, or the timer is for a time of that clock.
    pub fn put_back(&self, now: u64) -> Option<Self> {
        let back = self.since?.checked_sub(now)?;
        let is_back = !self.given_up && back > JUMP.as_millis() as u64;
        is_back.then(|| Self {
            due: self.due.saturating_sub(back),
            at: self.at.saturating_sub(back),
            since: Some(now),
            ..self.clone()
        })
    }

    /// What is left of it when it has failed: it is tried again later, or given up. What comes again, as
    /// `next` says, does so all the same.
    pub fn failed_before(&self, next: impl FnOnce() -> Option<Self>) -> Self {
        let failed = self.failed();
        match failed.given_up {
            true => next().unwrap_or(failed),
            false => failed,
        }
    }

    /// What is left of it when it has failed: it is tried again later, or given up.
    pub fn failed(&self) -> Self {
        let failures = self.failures + 1;
        let doublings = failures.saturating_sub(1).min(16);
        let pause = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        Self {
            failures,
            given_up: failures >= MAX_ATTEMPTS,
            at: now().saturating_add(pause.as_millis() as u64),
            since: Some(now()),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_again_is_so_by_the_time_that_was_meant() {
        let first = now() - 2_500;
        let timer = Timer {
            every: Some(1_000),
            ..Timer::new(first, "1".into())
        };
        let again = timer.answered().unwrap();
        assert_eq!(again.due, first + 3_000);
        assert_eq!(Timer::new(first, "1".into()).answered(), None);
        // The clock has gone back while it was called.
        let ahead = Timer {
            due: now() + 86_400_000,
            ..timer
        };
        assert!(ahead.answered().unwrap().due <= now() + 1_000);
    }

    #[test]
    fn what_fails_too_often_comes_again_if_it_is_to_come_again() {
        let last = Timer {
            failures: MAX_ATTEMPTS - 1,
            every: Some(60_000),
            ..Timer::new(now(), "1".into())
        };
        let left = last.failed_before(|| last.answered());
        assert_eq!((left.given_up, left.failures), (false, 0));
        assert_eq!(left.due, last.due + 60_000);
        assert!(last.failed_before(|| None).given_up);
        let first = Timer::new(now(), "1".into());
        assert_eq!(first.failed_before(|| first.answered()).failures, 1);
    }

    #[test]
    fn a_clock_that_goes_back_has_nothing_waited_for_longer() {
        let day = 86_400_000;
        let now = 100 * day;
        let timer = Timer {
            since: Some(now + day),
            ..Timer::new(now + day + 5_000, "1".into())
        };
        let put_back = timer.put_back(now).unwrap();
        assert_eq!((put_back.due, put_back.at), (now + 5_000, now + 5_000));
        assert_eq!(put_back.put_back(now), None);
        assert_eq!(timer.put_back(now + day - 1_000), None, "by a little");
        let of_a_time = Timer::new(now + day + 5_000, "1".into());
        assert_eq!(of_a_time.put_back(now), None);
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later_and_then_given_up() {
        let mut timer = Timer::new(now(), "1".into());
        let mut pauses = Vec::new();
        while !timer.given_up {
            timer = timer.failed();
            pauses.push(timer.at.saturating_sub(now()).div_ceil(1_000));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(Timer::of_value(&timer.to_value()).unwrap(), timer);
    }
}
