//! What ends at a time of its own, and is to be warned before.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::{error::WireError, revocation::Revocations};

/// A connection, which ends with the token of its user.
pub(crate) trait Expiring: Send + Sync {
    /// Whether its user's token still is one that expires at this time, in seconds since 1970.
    fn expires_at(&self, at: u64) -> bool;

    /// Tells its client what comes.
    fn warn(&self, error: &WireError);

    /// Ends it, so that its client may come back with another token.
    fn expire(&self);

    /// Whether its user's token is one of those that are revoked.
    fn is_revoked(&self, revocations: &Revocations, now: u64) -> bool;
}

/// When a token ends that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;

/// When connections end with the tokens of their users, of whatever endpoint.
pub(crate) type TokenDeadlines = Deadlines<Weak<dyn Expiring>>;

/// When one of them ends.
pub(crate) type TokenDeadline = Deadline<Weak<dyn Expiring>>;

/// All that is to end, by when. One table for all instead of a timer for each: most of it is gone
/// long before its time.
pub(crate) struct Deadlines<T>(Mutex<Tables<T>>);

/// When something is to end, in seconds since 1970, and a number of its own.
type Key = (u64, u64);

struct Tables<T> {
    next_number: u64,
    fresh: BTreeMap<Key, T>,
    warned: BTreeMap<Key, T>,
}

/// Keeps something in the table. It is taken out when this is dropped.
pub(crate) struct Deadline<T> {
    key: Key,
    of: Arc<Deadlines<T>>,
}

/// Whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due<T> {
    /// What ends soon, with when it does. It is named once.
    pub soon: Vec<(u64, T)>,
    /// What is over, with since when. It is in the table no more.
    pub over: Vec<(u64, T)>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self(Mutex::new(Tables {
            next_number: 0,
            fresh: BTreeMap::new(),
            warned: BTreeMap::new(),
        }))
    }
}

impl<T: Clone> Deadlines<T> {
    /// Something is to end at this time.
    pub(crate) fn add(self: &Arc<Self>, at: u64, what: T) -> Deadline<T> {
        let mut tables = self.0.lock();
        let key = (at, tables.next_number);
        tables.next_number += 1;
        tables.fresh.insert(key, what);
        Deadline {
            key,
            of: self.clone(),
        }
    }

    /// All of them, whenever they end.
    pub(crate) fn all(&self) -> Vec<T> {
        let tables = self.0.lock();
        let all = tables.fresh.values().chain(tables.warned.values());
        all.cloned().collect()
    }

    /// What is to be warned or to be ended at `now`: it is warned `warning` seconds before its time,
    /// and ended `leeway` seconds after it.
    pub(crate) fn due(&self, now: u64, warning: u64, leeway: u64) -> Due<T> {
        let mut tables = self.0.lock();
        let Tables { fresh, warned, .. } = &mut *tables;
        let mut over = Vec::new();
        if let Some(latest) = now.checked_sub(leeway) {
            // Who comes late is not warned of what has happened.
            for table in [&mut *fresh, &mut *warned] {
                over.extend(take_until(table, latest).map(|(key, what)| (key.0, what)));
            }
        }
        let latest = now.saturating_add(warning);
        let soon = take_until(fresh, latest).map(|(key, what)| {
            warned.insert(key, what.clone());
            (key.0, what)
        });
        Due {
            soon: soon.collect(),
            over,
        }
    }
}

impl<T> Drop for Deadline<T> {
    fn drop(&mut self) {
        let mut tables = self.of.0.lock();
        let Tables { fresh, warned, .. } = &mut *tables;
        let gone = fresh.remove(&self.key).or_else(|| warned.remove(&self.key));
        drop(tables);
        // Outside of the lock: what goes with it may hold another deadline.
        drop(gone);
    }
}

/// Takes out what ends at `latest` or before.
fn take_until<T>(table: &mut BTreeMap<Key, T>, latest: u64) -> impl Iterator<Item = (Key, T)> {
    std::iter::from_fn(move || {
        let first = table.first_entry()?;
        (first.key().0 <= latest).then(|| first.remove_entry())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WARNING: u64 = 60;
    const LEEWAY: u64 = 5;

    fn due<T: Clone>(deadlines: &Deadlines<T>, now: u64) -> Due<T> {
        deadlines.due(now, WARNING, LEEWAY)
    }

    #[test]
    fn each_is_warned_once_and_then_ends_once() {
        let deadlines = Arc::<Deadlines<_>>::default();
        let _kept =
            [(1000, "a"), (1000, "b"), (1030, "c")].map(|(at, what)| deadlines.add(at, what));
        for (now, soon, over) in [
            (939, vec![], vec![]),
            (940, vec![(1000, "a"), (1000, "b")], vec![]),
            (941, vec![], vec![]),
            (1004, vec![(1030, "c")], vec![]),
            (1005, vec![], vec![(1000, "a"), (1000, "b")]),
            (1006, vec![], vec![]),
            (2000, vec![], vec![(1030, "c")]),
            (3000, vec![], vec![]),
        ] {
            assert_eq!(due(&deadlines, now), Due { soon, over }, "{now}");
        }
    }

    #[test]
    fn what_is_let_go_is_neither_warned_nor_ended() {
        let deadlines = Arc::<Deadlines<_>>::default();
        let fresh = deadlines.add(1000, "fresh");
        drop(fresh);
        let warned = deadlines.add(1000, "warned");
        assert_eq!(due(&deadlines, 950).soon.len(), 1);
        drop(warned);
        assert_eq!(due(&deadlines, 5000), due(&Deadlines::default(), 5000));
        let tables = deadlines.0.lock();
        assert!(tables.fresh.is_empty() && tables.warned.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_forgotten_and_nothing_comes_early(
            ends in proptest::collection::vec(0_u64..500, 0..20),
            steps in proptest::collection::vec(0_u64..100, 1..20),
            warning in 0_u64..100,
            leeway in 0_u64..100,
        ) {
            let deadlines = Arc::<Deadlines<_>>::default();
            let _kept: Vec<_> = ends.iter().enumerate().map(|(which, at)| deadlines.add(*at, which)).collect();
            let mut now = 0;
            let mut seen = vec![(0, 0); ends.len()];
            for step in steps.into_iter().chain([1000]) {
                now += step;
                let Due { soon, over } = deadlines.due(now, warning, leeway);
                for (at, which) in soon {
                    prop_assert_eq!(at, ends[which]);
                    prop_assert!(at <= now + warning && seen[which] == (0, 0));
                    seen[which].0 += 1;
                }
                for (at, which) in over {
                    prop_assert_eq!(at, ends[which]);
                    prop_assert!(at + leeway <= now && seen[which].1 == 0);
                    seen[which].1 += 1;
                }
                for (at, (_, over)) in ends.iter().zip(&seen) {
                    prop_assert_eq!(*over == 1, at + leeway <= now);
                }
            }
        }
    }
}
