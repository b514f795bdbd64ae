//! Sends what has ended, and the metrics now and then.

use std::{
    collections::BTreeMap,
    mem,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use prometheus::proto::MetricFamily;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Counts,
    metrics::converted,
    otlp::{self, Traces},
    span::Open,
};
use crate::{
    config,
    http_client::{Answer, Destination, HttpClient, Reach},
    id,
};

/// So many spans go in one request at most.
const MAX_BATCH: usize = 512;

/// How long the first of them waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// How long a collector may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request is tried again that may be taken later.
const RETRIES: Duration = Duration::from_secs(30);

/// Pause before the first of these; twice as long after each.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the end of a server waits for what is still to be sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// How large an answer may be, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What `/metrics` shows, as it is now.
pub(crate) type Families = Box<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// Who sends, before it does.
pub(crate) struct Exporter {
    collector: Collector,
    waiting: mpsc::Receiver<Box<Open>>,
    counts: Counts,
    /// How often metrics are sent; none if they are not.
    interval: Option<Duration>,
    /// Since when they count.
    began: SystemTime,
}

/// Sends, until it is told to end.
pub(crate) struct Exporting {
    end: CancellationToken,
    task: JoinHandle<()>,
}

/// Where to, and from whom.
struct Collector {
    http: HttpClient,
    traces: Uri,
    metrics: Uri,
    headers: HeaderMap,
    /// What is said of this server.
    resource: BTreeMap<String, String>,
    /// Whether it did not take what it was sent last.
    is_down: AtomicBool,
}

/// What a collector answers that did not take all of it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Taken {
    partial_success: PartialSuccess,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PartialSuccess {
    /// A number, or a text as OTLP's JSON has numbers of 64 bits.
    rejected_spans: serde_json::Value,
    error_message: String,
}

impl Exporter {
    pub(super) fn new(
        config: &config::Telemetry,
        endpoint: &Destination,
        http: HttpClient,
        waiting: mpsc::Receiver<Box<Open>>,
        counts: Counts,
    ) -> Self {
        let mut headers: HeaderMap = config.headers.iter().cloned().collect();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let own = HeaderValue::from_static(concat!("mixlab/", env!("CARGO_PKG_VERSION")));
        headers.entry(header::USER_AGENT).or_insert(own);
        let mut resource: BTreeMap<String, String> = [
            ("service.name", "mixlab".to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", id::random()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        resource.extend(config.resource.clone());
        Self {
            collector: Collector {
                http,
                traces: endpoint.below("/v1/traces"),
                metrics: endpoint.below("/v1/metrics"),
                headers,
                resource,
                is_down: AtomicBool::new(false),
            },
            waiting,
            counts,
            interval: config.metrics.then_some(config.interval),
            began: SystemTime::now(),
        }
    }

    /// Begins to send; `families` are the metrics.
    pub(crate) fn start(self, families: Families) -> Exporting {
        let end = CancellationToken::new();
        let task = tokio::spawn(self.run(families, end.clone()));
        Exporting { end, task }
    }

    async fn run(self, families: Families, end: CancellationToken) {
        let Self {
            collector,
            mut waiting,
            counts,
            interval,
            began,
        } = self;
        let metrics = async {
            if let Some(interval) = interval {
                collector
                    .send_metrics(interval, began, &families, &end)
                    .await;
            }
        };
        let traces = collector.send_traces(&mut waiting, &counts, &end);
        tokio::join!(traces, metrics);
    }
}

impl Exporting {
    /// Sends what waits still, for a while.
    pub(crate) async fn end(mut self) {
        self.end.cancel();
        if timeout(PATIENCE, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!(
                "the last spans and metrics are lost: the collector of [telemetry] does not take them"
            );
        }
    }
}

impl Collector {
    async fn send_traces(
        &self,
        waiting: &mut mpsc::Receiver<Box<Open>>,
        counts: &Counts,
        end: &CancellationToken,
    ) {
        let mut batch = Vec::new();
        while !end.is_cancelled() {
            tokio::select! {
                taken = waiting.recv_many(&mut batch, MAX_BATCH) => {
                    if taken == 0 {
                        // Nobody is there any more who could end one.
                        return;
                    }
                }
                () = end.cancelled() => break,
            }
            let others = async {
                while batch.len() < MAX_BATCH {
                    let most = MAX_BATCH - batch.len();
                    if waiting.recv_many(&mut batch, most).await == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                () = others => {}
                () = sleep(DELAY) => {}
                () = end.cancelled() => {}
            }
            self.send_batch(mem::take(&mut batch), counts).await;
        }
        loop {
            while batch.len() < MAX_BATCH
                && let Ok(span) = waiting.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send_batch(mem::take(&mut batch), counts).await;
        }
    }

    #[expect(clippy::vec_box, reason = "spans come in their boxes")]
    async fn send_batch(&self, mut batch: Vec<Box<Open>>, counts: &Counts) {
        let body = encoded(&Traces::new(&self.resource, &mut batch));
        let all = batch.len() as u64;
        // They take more than their encoding while it may have to be sent again.
        drop(batch);
        let rejected = match self.send(&self.traces, body).await {
            Some(answer) => rejected(&answer).min(all),
            None => all,
        };
        counts.failed.inc_by(rejected);
        counts.sent.inc_by(all - rejected);
    }

    async fn send_metrics(
        &self,
        every: Duration,
        began: SystemTime,
        families: &Families,
        end: &CancellationToken,
    ) {
        let mut clock = interval(every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, when there is nothing to tell of.
        clock.tick().await;
        loop {
            let is_last = tokio::select! {
                _ = clock.tick() => false,
                () = end.cancelled() => true,
            };
            let families = families();
            let metrics = converted(&families, began, SystemTime::now());
            let body = encoded(&otlp::Metrics::new(&self.resource, metrics));
            self.send(&self.metrics, body).await;
            if is_last {
                return;
            }
        }
    }

    /// Sends a request, again where that may help. None if it was not taken.
    async fn send(&self, to: &Uri, body: Bytes) -> Option<Answer> {
        let until = Instant::now() + RETRIES;
        let mut pause = PAUSE;
        loop {
            let (reason, again) = match self.send_once(to, body.clone()).await {
                Ok(answer) if answer.status.is_success() => {
                    if self.is_down.swap(false, Ordering::Relaxed) {
                        tracing::info!("the collector of [telemetry] takes what it is sent again");
                    }
                    return Some(answer);
                }
                Ok(answer) => {
                    let status = answer.status.as_u16();
                    let again = retry_after(&answer);
                    (format!("it answers with status {status}"), again)
                }
                Err(reason) => (reason, Some(Duration::ZERO)),
            };
            if !self.is_down.swap(true, Ordering::Relaxed) {
                tracing::warn!(collector = %to, "the collector of [telemetry] does not take what it is sent: {reason}");
            }
            let wait = again?.max(pause);
            if Instant::now() + wait > until {
                return None;
            }
            sleep(wait).await;
            pause *= 2;
        }
    }

    async fn send_once(&self, to: &Uri, body: Bytes) -> Result<Answer, String> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.clone();
        *request.headers_mut() = self.headers.clone();
        let sending = self.http.send(request, Reach::Private, MAX_ANSWER);
        match timeout(ANSWER_TIMEOUT, sending).await {
            Ok(answered) => answered.map_err(|reason| reason.to_string()),
            Err(_) => Err(format!("there was no answer in {ANSWER_TIMEOUT:?}")),
        }
    }
}

fn encoded(body: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(body);
    json.expect("texts, numbers and lists always serialise")
        .into()
}

/// How long to wait at least before a request is sent again that was answered so; none if that does not help.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let is_passing = matches!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let asked = answer.headers.get(header::RETRY_AFTER);
    let seconds = asked.and_then(|value| value.to_str().ok()?.parse().ok());
    is_passing.then(|| Duration::from_secs(seconds.unwrap_or_default()).min(RETRIES))
}

/// How many spans a collector has not taken, of those that it was sent.
fn rejected(answer: &Answer) -> u64 {
    let taken: Taken = serde_json::from_slice(&answer.body).unwrap_or_default();
    let PartialSuccess {
        rejected_spans,
        error_message,
    } = taken.partial_success;
    let text = rejected_spans.as_str().and_then(|text| text.parse().ok());
    let rejected = text.or_else(|| rejected_spans.as_u64()).unwrap_or_default();
    if rejected > 0 {
        tracing::debug!(
            rejected,
            "the collector of [telemetry] says: {error_message:?}"
        );
    }
    rejected
}
