//! How a plugin has been doing. It outlives reloads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::journal::Journal;
use crate::error::TraceId;

/// How long a plugin that overran is not started on a socket's own task.
const PENALTY: Duration = Duration::from_secs(10);

/// One plugin's record.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    calls: AtomicU64,
    failures: AtomicU64,
    /// Milliseconds after `started`; 0 if it never overran.
    penalty_until: AtomicU64,
    last_failure: Mutex<Option<Failure>>,
    journal: Arc<Journal>,
}

/// A failure, for health and `plugin list`.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// When, in RFC 3339.
    pub at: String,
    /// During what, e.g. an event's name.
    pub during: String,
    /// Why.
    pub reason: String,
    /// Of a call: the id that its client was told.
    pub trace_id: Option<TraceId>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            penalty_until: AtomicU64::new(0),
            last_failure: Mutex::new(None),
            journal: Arc::default(),
        }
    }
}

impl Health {
    /// Counts a call.
    pub fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts and remembers a failure: of a call under its `trace_id`, of a load.
    pub fn failed(
        &self,
        during: impl Into<String>,
        reason: impl Into<String>,
        trace_id: Option<TraceId>,
    ) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let failure = Failure {
            at,
            during: during.into(),
            reason: reason.into(),
            trace_id,
        };
        *self.last_failure.lock() = Some(failure);
    }

    /// Remembers that it overran.
    pub fn overran(&self) {
        let until = self.started.elapsed() + PENALTY;
        self.penalty_until
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether it overran lately.
    pub fn in_penalty(&self) -> bool {
        let until = self.penalty_until.load(Ordering::Relaxed);
        // The clock is read only for plugins that ever overran.
        until != 0 && (self.started.elapsed().as_millis() as u64) < until
    }

    /// Its last lines.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Failures so far.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The last failure, if there ever was one.
    pub fn last_failure(&self) -> Option<Failure> {
        self.last_failure.lock().clone()
    }
}
