//! How often something may happen, as a bucket of tokens that fills up evenly.

use std::{num::NonZeroU32, time::Duration};

use crate::units::Rate;

/// So many in an interval, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Quota {
    count: NonZeroU32,
    /// More than nothing.
    interval: Duration,
    burst: NonZeroU32,
}

/// A bucket of a quota: when it is full again. In nanoseconds since some beginning, times the count
/// of the quota: so a token is a whole number of them, whatever the rate is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket(u128);

impl Quota {
    /// None if the burst is nothing.
    pub(super) fn new(rate: Rate, burst: u32) -> Option<Self> {
        Some(Self {
            count: NonZeroU32::new(rate.count())?,
            interval: rate.interval(),
            burst: NonZeroU32::new(burst)?,
        })
    }

    /// How long an empty bucket takes to be full again.
    pub(super) fn fills_up_in(&self) -> Duration {
        let nanos = self.interval.as_nanos() * u128::from(self.burst.get());
        nanoseconds(nanos.div_ceil(self.count.get().into()))
    }

    /// Takes a token, or says how long there is none. `now` counts from the same beginning always.
    pub(super) fn take(&self, bucket: &mut Bucket, now: Duration) -> Result<(), Duration> {
        let now = self.scaled(now);
        let token = self.interval.as_nanos();
        let others = token * u128::from(self.burst.get() - 1);
        let full = bucket.0.max(now);
        let missing = full - now;
        if missing <= others {
            *bucket = Bucket(full + token);
            return Ok(());
        }
        let wait = (missing - others).div_ceil(self.count.get().into());
        Err(nanoseconds(wait))
    }

    /// Puts a token back that was taken.
    pub(super) fn give_back(&self, bucket: &mut Bucket) {
        bucket.0 = bucket.0.saturating_sub(self.interval.as_nanos());
    }

    /// So many tokens come in an interval, and so many are there at once.
    pub(super) fn parts(&self) -> (u32, Duration, u32) {
        (self.count.get(), self.interval, self.burst.get())
    }

    /// Whether the bucket is as good as a new one.
    pub(super) fn is_full(&self, bucket: Bucket, now: Duration) -> bool {
        bucket.0 <= self.scaled(now)
    }

    fn scaled(&self, time: Duration) -> u128 {
        time.as_nanos() * u128::from(self.count.get())
    }
}

fn nanoseconds(count: u128) -> Duration {
    u64::try_from(count).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn quota(count: u32, interval: Duration, burst: u32) -> Quota {
        Quota::new(Rate::new(count, interval).unwrap(), burst).unwrap()
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_by_one() {
        let quota = quota(2, SECOND, 3);
        let mut bucket = Bucket::default();
        let begin = SECOND * 100;
        assert!((0..3).all(|_| quota.take(&mut bucket, begin).is_ok()));
        assert_eq!(quota.take(&mut bucket, begin), Err(SECOND / 2));
        assert_eq!(quota.take(&mut bucket, begin + SECOND / 4), Err(SECOND / 4));
        assert_eq!(quota.take(&mut bucket, begin + SECOND / 2), Ok(()));
        assert!(!quota.is_full(bucket, begin + SECOND * 3 / 2));
        assert!(quota.is_full(bucket, begin + SECOND * 2));
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken_again() {
        let quota = quota(1, SECOND, 2);
        let mut bucket = Bucket::default();
        assert!((0..2).all(|_| quota.take(&mut bucket, SECOND).is_ok()));
        quota.give_back(&mut bucket);
        assert_eq!(quota.take(&mut bucket, SECOND), Ok(()));
        assert_eq!(quota.take(&mut bucket, SECOND), Err(SECOND));
        let mut full = Bucket::default();
        quota.give_back(&mut full);
        assert!((0..2).all(|_| quota.take(&mut full, SECOND).is_ok()));
        assert!(
            quota.take(&mut full, SECOND).is_err(),
            "and no more than that"
        );
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_gets_a_token(
            count in 1..=1_000_000_u32,
            interval in 1_000_000_000..=u64::MAX,
            burst in 1..=u32::MAX,
            now in 0..=u64::MAX / 2,
        ) {
            let quota = quota(count, Duration::from_nanos(interval), burst);
            let (mut bucket, mut now) = (Bucket::default(), Duration::from_nanos(now));
            for _ in 0..4 {
                if let Err(wait) = quota.take(&mut bucket, now) {
                    prop_assert!(!wait.is_zero());
                    now += wait;
                    prop_assert_eq!(quota.take(&mut bucket, now), Ok(()));
                }
            }
        }

        #[test]
        fn no_more_than_the_burst_and_the_rate_get_through(
            count in 1..50_u32,
            millis in 50..1000_u64,
            burst in 1..20_u32,
            pauses in prop::collection::vec(0..500_u64, 1..100),
        ) {
            let interval = Duration::from_millis(millis);
            let quota = quota(count, interval, burst);
            let (mut bucket, mut now, mut taken) = (Bucket::default(), Duration::ZERO, 0);
            for pause in pauses {
                now += Duration::from_millis(pause);
                taken += u128::from(quota.take(&mut bucket, now).is_ok());
            }
            let refilled = now.as_nanos() * u128::from(count) / interval.as_nanos();
            prop_assert!(taken <= refilled + u128::from(burst));
        }
    }
}
