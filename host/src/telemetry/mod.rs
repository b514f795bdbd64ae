//! OpenTelemetry: traces of what happens, and the metrics, sent to a collector by OTLP over HTTP.
//!
//! A [`Span`] stands in the struct that each event, call or commit has anyway, and ends with it. Where nobody
//! traces it is a null pointer, and nothing is made of it. [`Context`] is what a span's parts have for a parent,
//! where the span itself is elsewhere; [`SpanContext`] is that for other programs. What has ended waits in a
//! bounded queue for the one task that sends it ([`Exporter`]). OTLP's encoding is its JSON (`otlp.rs`), made of
//! what serde derives: the official crates for Rust do not take what the Prometheus registry has counted.

mod call;
mod context;
mod event;
mod export;
mod metrics;
mod otlp;
mod request;
mod span;
mod traced;

use std::sync::Arc;

use prometheus::IntCounter;
use tokio::sync::mpsc;

pub(crate) use context::{SpanContext, TRACEPARENT};
pub(crate) use export::{Exporter, Families};
pub(crate) use request::trace_request;
pub(crate) use span::{Context, Kind, Span};
pub(crate) use traced::Traced;

use crate::{
    config,
    error::TraceId,
    http_client::HttpClient,
    metrics::{Metrics, ended_spans},
    rarely::Rarely,
};

/// So many spans may wait to be sent.
const MAX_WAITING: usize = 8192;

/// Begins spans, and takes those that have ended.
pub(crate) struct Tracer {
    ended: mpsc::Sender<Box<span::Open>>,
    /// Traces whose ids end with less are recorded, of those that begin here.
    sample_below: u128,
    counts: Counts,
    is_full: Rarely,
}

/// Counts spans by what became of them.
#[derive(Clone)]
struct Counts {
    sent: IntCounter,
    /// The queue was full.
    dropped: IntCounter,
    /// The collector did not take them.
    failed: IntCounter,
}

impl Counts {
    fn new(metrics: &Metrics) -> Self {
        let counters = ended_spans();
        let of = |outcome| counters.with_label_values(&[outcome]);
        let counts = Self {
            sent: of("sent"),
            dropped: of("dropped"),
            failed: of("failed"),
        };
        metrics.add(counters);
        counts
    }
}

/// What is to be traced, and who sends it; none where no collector is configured.
pub(crate) fn start(
    config: &config::Telemetry,
    http: &HttpClient,
    metrics: &Metrics,
) -> Option<(Arc<Tracer>, Exporter)> {
    let endpoint = config.endpoint.as_ref()?;
    let (ended, waiting) = mpsc::channel(MAX_WAITING);
    let counts = Counts::new(metrics);
    let tracer = Tracer {
        ended,
        sample_below: (config.sample * 2_f64.powi(64)) as u128,
        counts: counts.clone(),
        is_full: Rarely::default(),
    };
    let exporter = Exporter::new(config, endpoint, http.of_plugin(), waiting, counts);
    Some((Arc::new(tracer), exporter))
}

impl Tracer {
    /// Whether a trace that begins here is recorded. Its id says so, so that all who look at that decide alike.
    fn samples(&self, trace: TraceId) -> bool {
        u128::from(trace.low()) < self.sample_below
    }

    /// Takes a span that has ended, if there is room. Who ends one never waits.
    fn take(&self, ended: Box<span::Open>) {
        if self.ended.try_send(ended).is_ok() {
            return;
        }
        self.counts.dropped.inc();
        self.is_full.say(|| {
            tracing::warn!(
                "spans are dropped: the collector of [telemetry] is slower than they come"
            );
        });
    }
}
