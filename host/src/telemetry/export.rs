//! Sends what has ended, and the metrics now and then.

use std::{
    collections::BTreeMap,
    mem,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::Full;
use prometheus::{IntCounterVec, proto::MetricFamily};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    metrics::{Metric, converted},
    otlp::{self, Traces},
    signal::{Refusal, Signal},
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

/// How long a collector may take for an answer, and again for the rest of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request is tried again that may be taken later.
const RETRIES: Duration = Duration::from_secs(30);

/// Pause before the first of these; twice as long after each.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the end of a process waits for what is still to be sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// How large an answer may be, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What `/metrics` shows, as it is now.
pub(crate) type Families = Box<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// Who sends, before it does.
pub(crate) struct Exporter {
    collector: Collector,
    traces: Signal,
    metrics: Signal,
    waiting: mpsc::Receiver<Box<Open>>,
    /// How often metrics are sent; none if they are not.
    interval: Option<Duration>,
    /// Since when they count.
    began: SystemTime,
}

/// Sends, until it is told to end, or dropped.
pub(crate) struct Exporting {
    end: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// How it is sent, and from whom.
struct Collector {
    http: HttpClient,
    headers: HeaderMap,
    /// What is said of this server.
    resource: BTreeMap<String, String>,
}

impl Exporter {
    pub(super) fn new(
        config: &config::Telemetry,
        endpoint: &Destination,
        http: HttpClient,
        waiting: mpsc::Receiver<Box<Open>>,
        (spans, data_points): (&IntCounterVec, &IntCounterVec),
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
                headers,
                resource,
            },
            traces: Signal::new("traces", endpoint.below("/v1/traces"), spans),
            metrics: Signal::new("metrics", endpoint.below("/v1/metrics"), data_points),
            waiting,
            interval: config.metrics.then_some(config.interval),
            began: SystemTime::now(),
        }
    }

    /// Begins to send; `families` are the metrics.
    pub(crate) fn start(self, families: Families) -> Exporting {
        let end = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(self.run(families, end.clone())));
        Exporting { end, task }
    }

    async fn run(self, families: Families, end: CancellationToken) {
        let Self {
            collector,
            mut traces,
            mut metrics,
            mut waiting,
            interval,
            began,
        } = self;
        let metrics = async {
            if let Some(interval) = interval {
                collector
                    .send_metrics(&mut metrics, (interval, began), &families, &end)
                    .await;
            }
        };
        let traces = collector.send_traces(&mut traces, &mut waiting, &end);
        tokio::join!(traces, metrics);
    }
}

impl Exporting {
    /// Sends what waits still, for a while: nobody else is to wait for that.
    pub(crate) async fn end(self) {
        self.end.cancel();
        if timeout(PATIENCE, self.task).await.is_err() {
            tracing::warn!(
                "the last spans and metrics are lost: the collector of [telemetry] does not take them"
            );
        }
    }
}

impl Collector {
    async fn send_traces(
        &self,
        traces: &mut Signal,
        waiting: &mut mpsc::Receiver<Box<Open>>,
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
            self.send_batch(traces, mem::take(&mut batch), end).await;
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
            self.send_batch(traces, mem::take(&mut batch), end).await;
        }
    }

    #[expect(clippy::vec_box, reason = "spans come in their boxes")]
    async fn send_batch(
        &self,
        traces: &mut Signal,
        mut batch: Vec<Box<Open>>,
        end: &CancellationToken,
    ) {
        let body = encoded(&Traces::new(&self.resource, &mut batch));
        let count = batch.len() as u64;
        // They take more than their encoding while it may have to be sent again.
        drop(batch);
        self.send(traces, body, count, end).await;
    }

    async fn send_metrics(
        &self,
        metrics: &mut Signal,
        (every, began): (Duration, SystemTime),
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
            let converted = converted(&families, began, SystemTime::now());
            let count = converted.iter().map(Metric::data_points).sum();
            let body = encoded(&otlp::Metrics::new(&self.resource, converted));
            self.send(metrics, body, count, end).await;
            if is_last {
                return;
            }
        }
    }

    /// Sends a request with so many spans or data points, again where that may help. When the end has come, it is
    /// tried once, and not at all where the last one was not taken.
    async fn send(&self, signal: &mut Signal, body: Bytes, count: u64, end: &CancellationToken) {
        let until = Instant::now() + RETRIES;
        let mut pause = PAUSE;
        loop {
            let sent = tokio::select! {
                biased;
                () = end.cancelled(), if signal.is_down() => break,
                sent = self.send_once(signal, body.clone()) => sent,
            };
            let refusal = match sent {
                Ok(answer) => return signal.was_taken(&answer, count),
                Err(refusal) => refusal,
            };
            signal.was_refused(&refusal);
            let next = Instant::now() + pause;
            if !refusal.is_passing || next > until {
                break;
            }
            signal.wait_until(next);
            pause *= 2;
        }
        signal.lost(count);
    }

    /// Sends it when that may be done.
    async fn send_once(&self, signal: &Signal, body: Bytes) -> Result<Answer, Refusal> {
        sleep_until(signal.not_before()).await;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = signal.uri().clone();
        *request.headers_mut() = self.headers.clone();
        // What is taken is taken, whatever else is answered.
        let sending =
            self.http
                .send_for_status(request, Reach::Private, MAX_ANSWER, ANSWER_TIMEOUT);
        match sending.await {
            Ok(answer) if answer.status.is_success() => Ok(answer),
            Ok(answer) => Err(Refusal::of(&answer)),
            Err(reason) => Err(Refusal::without_answer(reason.to_string())),
        }
    }
}

fn encoded(body: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(body);
    json.expect("texts, numbers and lists always serialise")
        .into()
}
