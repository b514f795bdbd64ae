//! The clock that plugins live by: when what they store expires, their timers are due and their limits are
//! full again, and what they are told of the time. It is the machine's, but in cases of `mixlab test`, which
//! hold it and move it on.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// What the clock shows while it is held, in milliseconds since 1970; 0 while it is the machine's. There is
/// one for the process, as there is one of the machine.
static HELD: AtomicU64 = AtomicU64::new(0);

/// The last millisecond of the year 9999.
const LAST: u64 = 253_402_300_799_999;

/// Where a clock that is held has its beginning.
static BEGINNING: OnceLock<Instant> = OnceLock::new();

fn held() -> Option<Duration> {
    let held = HELD.load(Ordering::Relaxed);
    (held > 0).then(|| Duration::from_millis(held))
}

/// Stops the clock, which shows these milliseconds since 1970 until it is held at others.
pub(crate) fn hold(at: u64) {
    HELD.store(at.max(1), Ordering::Relaxed);
}

/// A time in milliseconds since 1970 as text; none after the year 9999, for which RFC 3339 has none.
pub(crate) fn text(at: u64) -> Option<String> {
    let time = UNIX_EPOCH + Duration::from_millis(at);
    (at <= LAST).then(|| humantime::format_rfc3339_millis(time).to_string())
}

/// The time since 1970.
pub(crate) fn since_1970() -> Duration {
    held().unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap_or_default()
    })
}

/// The same, as a time.
pub(crate) fn system() -> SystemTime {
    UNIX_EPOCH + since_1970()
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// A time to measure how much has passed.
pub(crate) fn instant() -> Instant {
    match held() {
        None => Instant::now(),
        Some(since) => *BEGINNING.get_or_init(Instant::now) + since,
    }
}

/// One moment, by the machine's clock and by the one that measures: times that another process is to know
/// are told by the first, and meant by the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    instant: Instant,
    /// In milliseconds since 1970.
    wall: u64,
}

impl Moment {
    /// This one.
    pub(crate) fn now() -> Self {
        Self {
            instant: Instant::now(),
            wall: now(),
        }
    }

    /// In milliseconds since 1970.
    pub(crate) fn wall(self) -> u64 {
        self.wall
    }

    /// When that was, in milliseconds since 1970.
    pub(crate) fn told(self, at: Instant) -> u64 {
        let age = self.instant.saturating_duration_since(at).as_millis();
        self.wall
            .saturating_sub(u64::try_from(age).unwrap_or(u64::MAX))
    }

    /// The inverse of [`Moment::told`]. What is to come counts as now.
    pub(crate) fn meant(self, at: u64) -> Instant {
        let age = Duration::from_millis(self.wall.saturating_sub(at));
        self.instant.checked_sub(age).unwrap_or(self.instant)
    }
}
