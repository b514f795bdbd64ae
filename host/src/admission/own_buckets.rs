//! The buckets that a connection has for itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use super::quota::{Bucket, Quota};

/// A connection that has so many buckets is looked at for those of limits that are gone.
pub(super) const BUCKETS_TO_SIFT: usize = 16;

/// Which limit it is, as long as there is one.
pub(super) struct LimitId {
    number: u64,
    life: Arc<()>,
}

/// The buckets of a connection; they end with it.
#[derive(Default)]
pub struct OwnBuckets(Mutex<BTreeMap<u64, OwnBucket>>);

struct OwnBucket {
    /// Gone with the limit.
    life: Weak<()>,
    bucket: Bucket,
}

impl LimitId {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            life: Arc::default(),
        }
    }
}

impl OwnBuckets {
    /// Takes a token, or says how long there is none.
    pub(super) fn take(
        &self,
        limit: &LimitId,
        quota: Quota,
        now: Duration,
    ) -> Result<(), Duration> {
        let mut own = self.0.lock();
        if let Some(known) = own.get_mut(&limit.number) {
            return quota.take(&mut known.bucket, now);
        }
        // Each time that there are twice as many, so that it costs next to nothing for each.
        if own.len() >= BUCKETS_TO_SIFT && own.len().is_power_of_two() {
            own.retain(|_, known| known.life.strong_count() > 0);
        }
        let known = own.entry(limit.number).or_insert_with(|| OwnBucket {
            life: Arc::downgrade(&limit.life),
            bucket: Bucket::default(),
        });
        quota.take(&mut known.bucket, now)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}
