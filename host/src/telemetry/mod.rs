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
mod signal;
mod span;
mod traced;

use std::sync::Arc;

use prometheus::IntCounter;
use tokio::sync::mpsc;

pub(crate) use context::{SpanContext, TRACEPARENT};
pub(crate) use export::{Exporter, Exporting, Families};
pub(crate) use request::trace_request;
pub(crate) use span::{Context, Kind, Span};
pub(crate) use traced::Traced;

use crate::{
    config,
    error::TraceId,
    http_client::HttpClient,
    metrics::{Metrics, ended_spans, exported_data_points},
    rarely::Rarely,
};

/// So many spans may wait to be sent.
const MAX_WAITING: usize = 8192;

/// Begins spans, and takes those that have ended.
pub(crate) struct Tracer {
    ended: mpsc::Sender<Box<span::Open>>,
    /// Traces whose ids end with less are recorded, of those that begin here.
    sample_below: u128,
    /// Those for which there was no room.
    dropped: IntCounter,
    is_full: Rarely,
}

/// What is to be traced, and who sends it; none where no collector is configured.
pub(crate) fn start(
    config: &config::Telemetry,
    http: &HttpClient,
    metrics: &Metrics,
) -> Option<(Arc<Tracer>, Exporter)> {
    let endpoint = config.endpoint.as_ref()?;
    let (ended, waiting) = mpsc::channel(MAX_WAITING);
    let (spans, data_points) = (ended_spans(), exported_data_points());
    let tracer = Tracer {
        ended,
        sample_below: (config.sample * 2_f64.powi(64)) as u128,
        dropped: spans.with_label_values(&["dropped"]),
        is_full: Rarely::default(),
    };
    let http = http.of_plugin();
    let exporter = Exporter::new(config, endpoint, http, waiting, (&spans, &data_points));
    metrics.add(spans);
    metrics.add(data_points);
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
        self.dropped.inc();
        self.is_full.say(|| {
            tracing::warn!(
                "spans are dropped: the collector of [telemetry] is slower than they come"
            );
        });
    }
}
