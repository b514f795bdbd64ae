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
    count: u32,
    interval_ms: u32,
    burst: u32,
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
        let interval_ms = u32::try_from(rate.interval().as_millis()).unwrap_or(u32::MAX);
        let limit = RateLimit {
            scope,
            count: rate.count(),
            interval_ms,
            burst: None,
        };
        self.declare("[limits]", key, &limit)
            .expect("a rate has a count and an interval")
    }

    /// The limit that a plugin declares for an event.
    pub fn declare(
        &self,
        plugin: &str,
        event: &str,
        limit: &RateLimit,
    ) -> Result<Arc<Limit>, String> {
        let burst = limit.burst.unwrap_or(limit.count);
        let quota = quota(limit.count, limit.interval_ms, burst).ok_or(
            "a rate limit needs a count, an interval and a burst of at least 1, and an empty \
             bucket must be full again within a year",
        )?;
        let identifier = Identifier {
            plugin: plugin.into(),
            event: event.into(),
            scope: limit.scope as u8,
            count: limit.count,
            interval_ms: limit.interval_ms,
            burst,
        };
        let mut limits = self.limits.lock();
        limits.retain(|_, limit| limit.strong_count() > 0);
        if let Some(same) = limits.get(&identifier).and_then(Weak::upgrade) {
            return Ok(same);
        }
        let hasher = RandomState::new();
        let buckets = RateLimiter::dashmap_with_clock_and_hasher(quota, Reading, hasher);
        let hits = self.metrics.rate_limited(scope_name(limit.scope));
        let limit = Arc::new(Limit {
            scope: limit.scope,
            hits,
            buckets,
        });
        limits.insert(identifier, Arc::downgrade(&limit));
        Ok(limit)
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

fn quota(count: u32, interval_ms: u32, burst: u32) -> Option<Quota> {
    let (count, burst) = (NonZeroU32::new(count)?, NonZeroU32::new(burst)?);
    let interval = Duration::from_millis(interval_ms.into());
    // The clock counts nanoseconds in 64 bits.
    let fill_up = (interval / count.get()).checked_mul(burst.get())?;
    if fill_up > LONGEST {
        return None;
    }
    Quota::with_period(interval / count.get()).map(|quota| quota.allow_burst(burst))
}
