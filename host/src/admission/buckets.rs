//! The buckets of a limit that several connections share: a bounded number of them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ahash::RandomState;
use parking_lot::Mutex;

use super::quota::{Bucket, Quota};

/// Parts of a table that do not wait for each other.
const SHARDS: usize = 16;

/// A limit has so many buckets in each part.
const MAX_IN_SHARD: usize = 4096;

/// All limits of a server together have so many.
const MAX_OF_ALL: usize = 1 << 20;

/// Buckets in each part for those that get none of their own.
const COMMON: usize = 16;

/// Room for the buckets of all limits of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Room {
    /// Takes a place, if there is one.
    fn take(&self) -> bool {
        // Nobody relies on the number but for how large it may be.
        let taken = self.0.fetch_add(1, Ordering::Relaxed);
        if taken >= MAX_OF_ALL {
            self.give_back(1);
        }
        taken < MAX_OF_ALL
    }

    fn give_back(&self, places: usize) {
        self.0.fetch_sub(places, Ordering::Relaxed);
    }
}

/// Buckets of one quota by whose they are. Where there is no room for more, those that have none yet
/// share some.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    quota: Quota,
    shards: [Mutex<Shard<K>>; SHARDS],
    hasher: RandomState,
    room: Room,
}

#[derive(Debug)]
struct Shard<K> {
    own: HashMap<K, Bucket, RandomState>,
    common: [Bucket; COMMON],
}

impl<K> Default for Shard<K> {
    fn default() -> Self {
        Self {
            own: HashMap::default(),
            common: Default::default(),
        }
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// None yet.
    pub(super) fn new(quota: Quota, room: Room) -> Self {
        Self {
            quota,
            shards: Default::default(),
            hasher: RandomState::new(),
            room,
        }
    }

    /// Takes a token from a bucket, or says how long it stays empty.
    pub(super) fn take(&self, key: K, now: Duration) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(&key) as usize;
        let Shard { own, common } = &mut *self.shards[hash % SHARDS].lock();
        if let Some(bucket) = own.get_mut(&key) {
            return self.quota.take(bucket, now);
        }
        if own.len() < MAX_IN_SHARD && self.room.take() {
            return self.quota.take(own.entry(key).or_default(), now);
        }
        self.quota.take(&mut common[hash / SHARDS % COMMON], now)
    }

    /// Puts a token back that was taken from a bucket. One that is full by now stays so.
    pub(super) fn give_back(&self, key: &K) {
        let hash = self.hasher.hash_one(key) as usize;
        let Shard { own, common } = &mut *self.shards[hash % SHARDS].lock();
        let bucket = match own.get_mut(key) {
            Some(bucket) => bucket,
            None => &mut common[hash / SHARDS % COMMON],
        };
        self.quota.give_back(bucket);
    }

    /// Gives the memory of full buckets back; they are as good as new ones.
    pub(super) fn forget_full(&self, now: Duration) {
        for shard in &self.shards {
            let own = &mut shard.lock().own;
            let before = own.len();
            own.retain(|_, bucket| !self.quota.is_full(*bucket, now));
            own.shrink_to_fit();
            self.room.give_back(before - own.len());
        }
    }
}

impl<K> Drop for Buckets<K> {
    fn drop(&mut self) {
        let left = self
            .shards
            .iter_mut()
            .map(|shard| shard.get_mut().own.len());
        self.room.give_back(left.sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn buckets(room: &Room) -> Buckets<u64> {
        let quota = Quota::new("1/1s".parse().unwrap(), 1).unwrap();
        Buckets::new(quota, room.clone())
    }

    fn count(buckets: &Buckets<u64>) -> usize {
        buckets
            .shards
            .iter()
            .map(|shard| shard.lock().own.len())
            .sum()
    }

    #[test]
    fn the_number_of_buckets_is_bounded_and_those_without_one_share() {
        let room = Room::default();
        let buckets = buckets(&room);
        assert_eq!(buckets.take(u64::MAX, NOW), Ok(()));
        let many = (4 * SHARDS * MAX_IN_SHARD) as u64;
        let taken = (0..many)
            .filter(|key| buckets.take(*key, NOW).is_ok())
            .count();
        assert_eq!(count(&buckets), SHARDS * MAX_IN_SHARD);
        assert_eq!(taken, SHARDS * MAX_IN_SHARD - 1 + SHARDS * COMMON);
        assert!(
            buckets.take(u64::MAX, NOW).is_err(),
            "nobody gets another bucket by it"
        );

        let later = NOW + Duration::from_secs(1);
        assert_eq!(buckets.take(u64::MAX, later), Ok(()));
        buckets.forget_full(later);
        assert_eq!(count(&buckets), 1, "one that is not full");
        assert!((0..1000).all(|key| buckets.take(key, later).is_ok()));
        drop(buckets);
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_limits_of_a_server_share_the_room() {
        let room = Room::default();
        room.0.store(MAX_OF_ALL - 1, Ordering::Relaxed);
        let (one, other) = (buckets(&room), buckets(&room));
        assert_eq!([one.take(1, NOW), other.take(1, NOW)], [Ok(()), Ok(())]);
        assert_eq!([count(&one), count(&other)], [1, 0]);
        drop(one);
        assert_eq!(other.take(2, NOW), Ok(()));
        assert_eq!(count(&other), 1);
    }
}
