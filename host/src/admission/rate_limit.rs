//! Token buckets: how often an event may be sent, by whom it counts.

use std::{
    cell::{Cell, LazyCell},
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use ahash::RandomState;
use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore,
};
use parking_lot::Mutex;
use prometheus::IntCounter;

use crate::{
    address::{ClientAddress, ClientNetwork},
    connection::{Connection, Identity},
    guest::{RateLimit, Scope},
    metrics::Metrics,
    transport::SocketKey,
    units::Rate,
};

type Buckets =
    RateLimiter<Subject, DashMapStateStore<Subject, RandomState>, Reading, NoOpMiddleware<Instant>>;

/// When an event came, for whoever wants to know it first.
pub type Now = LazyCell<Instant>;

thread_local! {
    /// What the clock of the buckets says on this thread, if not the time.
    static READING: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A clock that is read once for all limits of an event.
#[derive(Debug, Clone)]
struct Reading;

impl Clock for Reading {
    type Instant = Instant;

    fn now(&self) -> Instant {
        READING.get().unwrap_or_else(Instant::now)
    }
}

/// No bucket takes longer to fill up.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Whose bucket it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Socket(SocketKey),
    User(Box<str>),
    Ip(ClientNetwork),
    Role(Option<Box<str>>),
    Everybody,
}

/// One limit of one event, with its buckets.
pub struct Limit {
    scope: Scope,
    hits: IntCounter,
    buckets: Buckets,
}

/// All limits that are in force. A limit that a new version of a plugin declares again is the
/// same limit: a reload refills nobody's bucket.
pub struct RateLimits {
    metrics: Arc<Metrics>,
    limits: Mutex<HashMap<Identifier, Weak<Limit>>>,
}

/// What makes a limit the same over reloads.
#[derive(PartialEq, Eq, Hash)]
struct Identifier {
    plugin: Box<str>,
    event: Box<str>,
    scope: u8,
    rate: Rate,
    burst: NonZeroU32,
}

impl RateLimits {
    /// No limits yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            limits: Mutex::default(),
        }
    }

    /// A limit of `[limits]`, which stands over those of plugins.
    pub fn of_host(&self, key: &str, scope: Scope, rate: Rate) -> Arc<Limit> {
        self.limit("[limits]", key, scope, rate, None)
            .expect("a bucket of one rate's count is full again after its interval")
    }

    /// The limit that a plugin declares for an event.
    pub fn declare(
        &self,
        plugin: &str,
        event: &str,
        limit: &RateLimit,
    ) -> Result<Arc<Limit>, String> {
        let interval = Duration::from_millis(limit.interval_ms.into());
        let rate = Rate::new(limit.count, interval).map_err(|error| error.to_string())?;
        self.limit(plugin, event, limit.scope, rate, limit.burst)
            .ok_or_else(|| {
                let burst = limit.burst.unwrap_or_default();
                format!(
                    "invalid burst {burst}: expected 1 or more, and no more than come in a year"
                )
            })
    }

    /// None where an empty bucket would not be full again within a year.
    fn limit(
        &self,
        plugin: &str,
        event: &str,
        scope: Scope,
        rate: Rate,
        burst: Option<u32>,
    ) -> Option<Arc<Limit>> {
        let burst = NonZeroU32::new(burst.unwrap_or(rate.count()))?;
        let quota = quota(rate, burst)?;
        let identifier = Identifier {
            plugin: plugin.into(),
            event: event.into(),
            scope: scope as u8,
            rate,
            burst,
        };
        let hits = self.metrics.rate_limited(scope_name(scope));
        let mut limits = self.limits.lock();
        limits.retain(|_, limit| limit.strong_count() > 0);
        if let Some(same) = limits.get(&identifier).and_then(Weak::upgrade) {
            return Some(same);
        }
        let hasher = RandomState::new();
        let buckets = RateLimiter::dashmap_with_clock_and_hasher(quota, Reading, hasher);
        let limit = Arc::new(Limit {
            scope,
            hits,
            buckets,
        });
        limits.insert(identifier, Arc::downgrade(&limit));
        Some(limit)
    }

    /// Gives the memory of full buckets back; they are as good as new ones.
    pub fn forget_idle(&self) {
        let limits: Vec<_> = {
            let limits = self.limits.lock();
            limits.values().filter_map(Weak::upgrade).collect()
        };
        for limit in limits {
            limit.buckets.retain_recent();
            limit.buckets.shrink_to_fit();
        }
    }
}

impl Limit {
    /// Takes a token from the sender's bucket, or says how long it stays empty.
    pub fn check(
        &self,
        connection: &Connection,
        identity: &Identity,
        now: &Now,
    ) -> Result<(), Duration> {
        let subject = match (self.scope, &identity.user) {
            (Scope::Socket, _) | (Scope::User, None) => Subject::Socket(connection.key),
            (Scope::User, Some(user)) => Subject::User(user.id.as_str().into()),
            (Scope::Ip, _) => Subject::Ip(connection.address.network()),
            (Scope::Role, user) => Subject::Role(
                user.as_ref()
                    .and_then(|user| user.roles.first())
                    .map(|role| role.as_str().into()),
            ),
            (Scope::Event, _) => Subject::Everybody,
        };
        self.take(&subject, **now)
    }

    /// Takes a token from an address' bucket, for what has no connection yet.
    pub fn check_address(&self, address: ClientAddress) -> Result<(), Duration> {
        self.take(&Subject::Ip(address.network()), Instant::now())
    }

    fn take(&self, subject: &Subject, now: Instant) -> Result<(), Duration> {
        READING.set(Some(now));
        let taken = self.buckets.check_key(subject);
        READING.set(None);
        taken.map_err(|not_until| {
            self.hits.inc();
            not_until.wait_time_from(now)
        })
    }
}

/// The word for a scope, in metrics and tools.
pub fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Socket => "socket",
        Scope::User => "user",
        Scope::Ip => "ip",
        Scope::Role => "role",
        Scope::Event => "event",
    }
}

fn quota(rate: Rate, burst: NonZeroU32) -> Option<Quota> {
    let period = rate.interval() / rate.count();
    // The clock counts nanoseconds in 64 bits.
    let fill_up = period.checked_mul(burst.get())?;
    if fill_up > LONGEST {
        return None;
    }
    Quota::with_period(period).map(|quota| quota.allow_burst(burst))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::duration;

    fn limits() -> RateLimits {
        RateLimits::new(Arc::default())
    }

    fn declared(count: u32, interval_ms: u32, burst: Option<u32>) -> Result<Arc<Limit>, String> {
        let limit = RateLimit {
            scope: Scope::Event,
            count,
            interval_ms,
            burst,
        };
        limits().declare("plugin", "event", &limit)
    }

    #[test]
    fn what_a_plugin_declares_and_no_limit_can_be_is_refused() {
        for (count, interval_ms, burst, reason) in [
            (0, 1000, None, "the count must be 1 or more"),
            (1, 0, None, "the interval must be 1ms or more"),
            (1001, 1, None, "more than a million a second"),
            (1, 1000, Some(0), "invalid burst 0"),
            (1, u32::MAX, Some(u32::MAX), "invalid burst 4294967295"),
        ] {
            let refused = declared(count, interval_ms, burst).err().unwrap();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(declared(u32::MAX, u32::MAX, Some(u32::MAX)).is_ok());
    }

    proptest! {
        /// As many at once as the rate says, and as many again after its interval, not earlier.
        #[test]
        fn a_rate_that_is_accepted_is_kept_to(
            count in prop_oneof![1_u32..100, 1_u32..3_000_000, Just(u32::MAX)],
            interval in prop_oneof![0_u64..10_000_000, 0_u64..40_000_000_000],
        ) {
            let interval = Duration::from_micros(interval);
            let text = format!("{count}/{}", duration::display(interval));
            let Ok(rate) = text.parse::<Rate>() else { return Ok(()) };
            let limit = limits().of_host("events", Scope::Event, rate);
            prop_assert_eq!(rate.interval(), interval);
            let takes = |now| limit.take(&Subject::Everybody, now).is_ok();
            let took = |now| (0..1000).take_while(|_| takes(now)).count();
            let expected = count.min(1000) as usize;
            let now = Instant::now();
            prop_assert_eq!(took(now), expected);
            if count < 1000 {
                let period = interval / count;
                let early = now + period - Duration::from_nanos(1);
                prop_assert!(!takes(early));
                prop_assert_eq!(took(now + interval), expected);
            }
        }
    }
}
