//! Counts answers of many sockets, over a window between warm-up and end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    sync::watch,
    time::{sleep, sleep_until},
};

use crate::{
    latency::Latencies,
    report::Report,
    target::Target,
    usage::{PER_MESSAGE, Stopwatch, Usage, report_memory},
};

/// How long after the end an answer may still come. One that comes later is lost.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 15_000 });

/// What the sockets of a scenario share.
pub struct Meter {
    answered: AtomicU64,
    latencies: Latencies,
    over: watch::Sender<bool>,
}

/// The window's result.
pub struct Window {
    usage: Usage,
    answered: u64,
}

impl Meter {
    /// Before the warm-up.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            answered: AtomicU64::new(0),
            latencies: Latencies::default(),
            over: watch::Sender::new(false),
        })
    }

    /// Counts answers by their latencies, and empties the list.
    pub fn answered(&self, latencies: &mut Vec<Duration>) {
        if latencies.is_empty() {
            return;
        }
        self.answered
            .fetch_add(latencies.len() as u64, Ordering::Relaxed);
        self.latencies.record(latencies);
        latencies.clear();
    }

    /// Whether no new questions are to be asked.
    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Ends when what has not been answered is lost.
    pub async fn deadline(&self) {
        self.end().await;
        sleep(GRACE).await;
    }

    /// Ends when no new questions are to be asked.
    pub async fn end(&self) {
        // The sender is here: it does not go away.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Lets the sockets run: first to warm up, then measured. They end after it.
    pub async fn measure(
        &self,
        target: &Target,
        warm_up: Duration,
        time: Duration,
    ) -> Result<Window> {
        sleep(warm_up).await;
        self.latencies.clear();
        let before = self.answered.load(Ordering::Relaxed);
        let stopwatch = Stopwatch::start(target)?;
        sleep_until((Instant::now() + time).into()).await;
        let usage = stopwatch.stop();
        let answered = self.answered.load(Ordering::Relaxed) - before;
        self.stop();
        Ok(Window {
            usage: usage?,
            answered,
        })
    }

    /// No new questions from now on.
    pub fn stop(&self) {
        self.over.send_replace(true);
    }

    /// How many answers there were so far.
    pub fn total(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// The latencies recorded.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }
}

impl Window {
    /// Puts it into a report.
    pub fn report(&self, report: &mut Report, meter: &Meter, target: &Target) -> Result<()> {
        self.usage.report(report, self.answered, &PER_MESSAGE);
        meter.latencies.report(report);
        report_memory(report, target)
    }
}
