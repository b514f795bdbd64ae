//! Rate limits: how often an event may be sent, by whom it counts.

use std::{
    cell::LazyCell,
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::IntCounter;

use super::{
    buckets::{Buckets, Room},
    own_buckets::LimitId,
    quota::Quota,
};
use crate::{
    address::{ClientAddress, ClientNetwork},
    clock,
    connection::{Connection, Identity},
    guest::{RateLimit, Scope},
    metrics::Metrics,
    units::Rate,
};

/// When an event came, for whoever wants to know it first.
pub(crate) type Now = LazyCell<Instant>;

/// No bucket that a plugin declares takes longer to fill up.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Whose bucket it is, if not a connection's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    User(Box<str>),
    Ip(ClientNetwork),
    Role(Option<Box<str>>),
    Everybody,
}

/// One limit of one event, with its buckets.
pub struct Limit {
    /// Finds the buckets that connections have of it.
    id: LimitId,
    /// Whose limit it is, for other servers that have it, too.
    family: Box<str>,
    scope: Scope,
    quota: Quota,
    /// What its buckets count time from.
    beginning: Instant,
    hits: IntCounter,
    buckets: Buckets<Subject>,
}

/// All limits that are in force. A limit that a new version of a plugin declares again is the
/// same limit: a reload refills nobody's bucket.
pub struct RateLimits {
    metrics: Arc<Metrics>,
    beginning: Instant,
    room: Room,
    last_id: AtomicU64,
    limits: Mutex<HashMap<Identifier, Weak<Limit>>>,
}

/// What makes a limit the same over reloads.
#[derive(PartialEq, Eq, Hash)]
struct Identifier {
    plugin: Box<str>,
    event: Box<str>,
    scope: u8,
    quota: Quota,
}

impl RateLimits {
    /// No limits yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            beginning: clock::instant(),
            room: Room::default(),
            last_id: AtomicU64::new(0),
            limits: Mutex::default(),
        }
    }

    /// A limit of `[limits]`, which stands over those of plugins.
    pub fn of_host(&self, key: &str, scope: Scope, rate: Rate) -> Arc<Limit> {
        let quota = Quota::new(rate, rate.count()).expect("a rate has a count");
        self.limit("[limits]", key, scope, quota)
    }

    /// The limit of webhooks that one address sends to a plugin.
    pub fn of_webhooks(&self, plugin: &str, rate: Rate) -> Arc<Limit> {
        let quota = Quota::new(rate, rate.count()).expect("a rate has a count");
        self.limit(plugin, "webhooks", Scope::Ip, quota)
    }

    /// The limit of the requests that come with an API key.
    pub fn of_api_key(&self, name: &str, rate: Rate) -> Arc<Limit> {
        let quota = Quota::new(rate, rate.count()).expect("a rate has a count");
        self.limit("[[api.keys]]", name, Scope::Event, quota)
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
        let burst = limit.burst.unwrap_or(limit.count);
        let quota = Quota::new(rate, burst)
            .filter(|quota| quota.fills_up_in() <= LONGEST)
            .ok_or_else(|| {
                format!(
                    "invalid burst {burst}: expected 1 or more, and no more than come in a year"
                )
            })?;
        Ok(self.limit(plugin, event, limit.scope, quota))
    }

    fn limit(&self, plugin: &str, event: &str, scope: Scope, quota: Quota) -> Arc<Limit> {
        let identifier = Identifier {
            plugin: plugin.into(),
            event: event.into(),
            scope: scope as u8,
            quota,
        };
        let mut limits = self.limits.lock();
        if let Some(same) = limits.get(&identifier).and_then(Weak::upgrade) {
            return same;
        }
        let limit = Arc::new(Limit {
            id: LimitId::new(self.last_id.fetch_add(1, Ordering::Relaxed)),
            family: format!("{plugin}:{event}").into(),
            scope,
            quota,
            beginning: self.beginning,
            hits: self.metrics.rate_limited(scope_name(scope)),
            buckets: Buckets::new(quota, self.room.clone()),
        });
        limits.insert(identifier, Arc::downgrade(&limit));
        limit
    }

    /// Gives the memory of full buckets back, and that of limits that are gone.
    pub fn forget_idle(&self) {
        let limits: Vec<_> = {
            let mut limits = self.limits.lock();
            limits.retain(|_, limit| limit.strong_count() > 0);
            limits.values().filter_map(Weak::upgrade).collect()
        };
        for limit in limits {
            limit.buckets.forget_full(limit.time(clock::instant()));
        }
    }
}

impl Limit {
    /// Takes a token from the sender's bucket, or says how long it stays empty.
    pub fn check(
        self: &Arc<Self>,
        connection: &Connection,
        identity: &Identity,
        now: &Now,
    ) -> Result<(), Duration> {
        let now = self.time(**now);
        self.counted(match self.subject(connection, identity) {
            Some(subject) => self.buckets.take(subject, now),
            None => connection.buckets.take(&self.id, self.quota, now),
        })
    }

    /// Whose bucket it is that the sender takes from; none if it is the connection's.
    pub(super) fn subject(&self, connection: &Connection, identity: &Identity) -> Option<Subject> {
        Some(match (self.scope, &identity.user) {
            (Scope::Socket, _) | (Scope::User, None) => return None,
            (Scope::User, Some(user)) => Subject::User(user.id.as_str().into()),
            (Scope::Ip, _) => Subject::Ip(connection.address.network()),
            (Scope::Role, user) => Subject::Role(
                user.as_ref()
                    .and_then(|user| user.roles.first())
                    .map(|role| role.as_str().into()),
            ),
            (Scope::Event, _) => Subject::Everybody,
        })
    }

    /// Whose limit it is.
    pub(super) fn family(&self) -> &str {
        &self.family
    }

    /// How often it is.
    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Tells the bucket of somebody from all others of its family.
    pub(super) fn bucket_name(&self, subject: &Subject) -> String {
        let (count, interval, burst) = self.quota.parts();
        let whose = match subject {
            Subject::User(id) => id,
            Subject::Ip(network) => &*network.to_string(),
            Subject::Role(role) => role.as_deref().unwrap_or_default(),
            Subject::Everybody => "",
        };
        let scope = scope_name(self.scope);
        format!("{scope}:{count}/{}+{burst}:{whose}", interval.as_nanos())
    }

    /// Puts a token back that was taken for nothing.
    pub(super) fn give_back(&self, subject: Subject) {
        self.buckets.give_back(&subject);
    }

    /// Somebody has met it.
    pub(super) fn count_hit(&self) {
        self.hits.inc();
    }

    /// Takes a token from an address' bucket, for what has no connection yet.
    pub fn check_address(&self, address: ClientAddress) -> Result<(), Duration> {
        let subject = Subject::Ip(address.network());
        self.counted(self.buckets.take(subject, self.time(clock::instant())))
    }

    /// Takes a token from the one bucket of a limit that is for all together.
    pub fn check_everybody(&self) -> Result<(), Duration> {
        self.counted(
            self.buckets
                .take(Subject::Everybody, self.time(clock::instant())),
        )
    }

    fn counted(&self, taken: Result<(), Duration>) -> Result<(), Duration> {
        taken.inspect_err(|_| self.hits.inc())
    }

    fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.beginning)
    }
}

/// The word for a scope, in metrics and tools.
pub(crate) fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Socket => "socket",
        Scope::User => "user",
        Scope::Ip => "ip",
        Scope::Role => "role",
        Scope::Event => "event",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::own_buckets::{BUCKETS_TO_SIFT, OwnBuckets},
        *,
    };
    use crate::units::duration;

    fn declared(limits: &RateLimits, event: &str) -> Arc<Limit> {
        let limit = RateLimit {
            scope: Scope::Socket,
            count: 1,
            interval_ms: 1,
            burst: None,
        };
        limits.declare("plugin", event, &limit).unwrap()
    }

    #[test]
    fn a_connection_keeps_no_buckets_of_limits_that_are_gone() {
        let limits = RateLimits::new(Arc::default());
        let own = OwnBuckets::default();
        let stays = declared(&limits, "stays");
        assert!(own.take(&stays.id, stays.quota, Duration::ZERO).is_ok());
        for number in 0..10_000 {
            let goes = declared(&limits, &format!("goes-{number}"));
            assert!(own.take(&goes.id, goes.quota, Duration::ZERO).is_ok());
        }
        assert!(own.count() <= BUCKETS_TO_SIFT);
        assert!(own.take(&stays.id, stays.quota, Duration::ZERO).is_err());
        limits.forget_idle();
        assert_eq!(limits.limits.lock().len(), 1);
    }

    #[test]
    fn a_limit_that_is_declared_again_is_the_same() {
        let limits = RateLimits::new(Arc::default());
        let [one, same] = [(); 2].map(|()| declared(&limits, "event"));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &declared(&limits, "other")));
    }

    #[test]
    fn what_a_plugin_declares_and_no_limit_can_be_is_refused() {
        let declared = |count, interval_ms, burst| {
            let limit = RateLimit {
                scope: Scope::Event,
                count,
                interval_ms,
                burst,
            };
            RateLimits::new(Arc::default()).declare("plugin", "event", &limit)
        };
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
            let limit = RateLimits::new(Arc::default()).of_host("events", Scope::Event, rate);
            prop_assert_eq!(rate.interval(), interval);
            let takes = |now| limit.buckets.take(Subject::Everybody, now).is_ok();
            let took = |now| (0..1000).take_while(|_| takes(now)).count();
            let expected = count.min(1000) as usize;
            prop_assert_eq!(took(Duration::ZERO), expected);
            if count < 1000 {
                prop_assert!(!takes(interval / count - Duration::from_nanos(1)));
                prop_assert_eq!(took(interval), expected);
            }
        }
    }
}
