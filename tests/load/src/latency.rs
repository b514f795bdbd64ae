//! Latencies in a histogram with a fixed precision (HDR).

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::report::Report;

/// Longer ones count as this long. No wait in these tests lasts longer.
const MAX: Duration = Duration::from_secs(120);

/// Values keep so many digits.
const DIGITS: u8 = 3;

/// Latencies of all sockets.
pub struct Latencies(Mutex<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX.as_nanos() as u64, DIGITS);
        Self(Mutex::new(histogram.expect("the bounds are valid")))
    }
}

impl Latencies {
    /// Adds some.
    pub fn record(&self, latencies: &[Duration]) {
        let mut histogram = self.lock();
        for latency in latencies {
            histogram.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// Throws away what was recorded so far.
    pub fn clear(&self) {
        self.lock().reset();
    }

    /// Takes over what another holds, and leaves it empty.
    pub fn take(&self, other: &Self) {
        let mut other = other.lock();
        let added = self.lock().add(&*other);
        added.expect("both have the same bounds");
        other.reset();
    }

    /// The latency that this share of them does not exceed, e.g. 0.99; zero if there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.lock().value_at_quantile(share))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.lock().max())
    }

    /// Puts the usual quantiles into a report.
    pub fn report(&self, report: &mut Report) {
        report.set_us("p50_us", self.quantile(0.50));
        report.set_us("p99_us", self.quantile(0.99));
        report.set_us("p999_us", self.quantile(0.999));
        report.set_us("max_us", self.max());
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().expect("no holder panics")
    }
}
