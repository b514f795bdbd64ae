//! What `/metrics` shows, in Prometheus' text format.
//!
//! Counters that the path of an event touches are looked up once, at load. Labels are declared
//! events, plugins and fixed words only, so that clients cannot make up new series; those of plugins
//! and events that are gone go with them.

mod counted;
mod process;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
    core::{Collector, Metric, MetricVec, MetricVecBuilder},
    proto::MetricFamily,
};

pub(crate) use self::counted::{Counted, Hits};
use self::process::Process;
use crate::{cluster, tls};

/// The label of events that no plugin declares.
pub(crate) const OTHER: &str = "other";

/// The plugin of events that the host answers, or nobody. No plugin has this name.
pub(crate) const NO_PLUGIN: &str = "";

/// What is loaded beside plugins. No plugin has this name.
pub(crate) const CONFIG_FILE: &str = "mixlab.toml";

/// The same for the files of `[tls]`. No plugin has this name either.
pub(crate) const CERTIFICATES: &str = "[tls]";

const PLUGIN: &str = "plugin";
const EVENT: &str = "event";
const WHAT: &str = "what";

/// What becomes of a load.
const LOADS: [&str; 2] = ["refused", "ok"];

/// Of what is shown in a cluster only: a gauge on its own would be there always.
const NO_LABELS: [&str; 0] = [];

/// The plugins that are switched on, each with the events that it declares.
pub(crate) type Live<'a> = HashMap<&'a str, HashSet<&'a str>>;

/// From a fast call to the usual wall-clock budget, in seconds.
const CALL_BUCKETS: [f64; 12] = [
    2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 2e-3, 1e-2, 5e-2, 0.5, 5.0,
];

/// All metrics of one server.
pub struct Metrics {
    registry: Registry,
    process: Process,
    clients: IntGauge,
    namespaces: IntGauge,
    connections: IntCounterVec,
    events: IntCounterVec,
    repeated: IntCounterVec,
    timers_given_up: IntCounterVec,
    rate_limited: IntCounterVec,
    dropped_emits: IntCounter,
    cluster_connected: IntGaugeVec,
    cluster_waiting_entries: IntGaugeVec,
    cluster_waiting_bytes: IntGaugeVec,
    passed_on: IntCounterVec,
    passed_on_websockets: IntGaugeVec,
    refused_connections: IntCounter,
    tls_handshakes: IntCounterVec,
    tls_expiry: IntGaugeVec,
    calls: HistogramVec,
    call_failures: IntCounterVec,
    requests: IntCounterVec,
    plugin_memory: IntGaugeVec,
    plugin_state: IntGaugeVec,
    plugin_paused: IntGaugeVec,
    plugin_paused_addresses: IntGaugeVec,
    reloads: IntCounterVec,
    key_fetches: IntCounterVec,
}

/// What is looked at of one plugin.
pub struct PluginSample<'a> {
    /// The name in `mixlab.toml`.
    pub name: &'a str,
    /// A fixed word for how it stands.
    pub state: &'static str,
    /// Whether it is paused for everybody.
    pub paused: bool,
    /// For how many addresses it is paused besides.
    pub paused_addresses: usize,
    /// Memory of its instances, in bytes.
    pub memory_bytes: usize,
}

/// What is counted for one plugin's calls.
#[derive(Clone)]
pub struct CallMetrics {
    duration: Histogram,
    failures: IntCounterVec,
    requests: IntCounterVec,
    plugin: String,
}

impl CallMetrics {
    /// Counts a call that took so long.
    pub fn called(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    /// The time in seconds within which 99 of 100 calls since the start have ended, as Prometheus estimates it from
    /// the buckets; none if there was no call.
    pub fn p99(&self) -> Option<f64> {
        let metric = self.duration.metric();
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket().iter();
        let buckets = buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        quantile(0.99, buckets, histogram.get_sample_count())
    }

    /// Counts a call that failed, by a fixed word for the reason.
    pub fn failed(&self, reason: &str) {
        self.failures
            .with_label_values(&[self.plugin.as_str(), reason])
            .inc();
    }

    /// Counts a request to another server, by a fixed word for what came of it.
    pub fn requested(&self, outcome: &str) {
        self.requests
            .with_label_values(&[self.plugin.as_str(), outcome])
            .inc();
    }
}

/// A quantile of so many values in all, by the counts up to the upper bounds of buckets. Values within a bucket
/// are taken to lie evenly, and those behind the last one at its end.
fn quantile(
    quantile: f64,
    buckets: impl IntoIterator<Item = (f64, u64)>,
    count: u64,
) -> Option<f64> {
    if count == 0 {
        return None;
    }
    let rank = quantile * count as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (upper, up_to) in buckets {
        if up_to as f64 >= rank {
            let share = (rank - below as f64) / (up_to - below) as f64;
            return Some(lower + (upper - lower) * share);
        }
        (lower, below) = (upper, up_to);
    }
    Some(lower)
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is valid");
            registered(&registry, gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is valid");
            registered(&registry, counter)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges =
                IntGaugeVec::new(Opts::new(name, help), labels).expect("the names are valid");
            registered(&registry, gauges)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters =
                IntCounterVec::new(Opts::new(name, help), labels).expect("the names are valid");
            registered(&registry, counters)
        };
        let reloads = counters(
            "mixlab_reloads_total",
            "Loads of plugins, of mixlab.toml and of the certificates of [tls], by result: ok or refused",
            &[WHAT, "result"],
        );
        both(&reloads, CONFIG_FILE, LOADS);
        let calls = HistogramOpts::new("mixlab_plugin_call_seconds", "Time of calls into a plugin")
            .buckets(CALL_BUCKETS.to_vec());
        let calls = HistogramVec::new(calls, &[PLUGIN]).expect("the names are valid");
        Self {
            clients: gauge("mixlab_clients", "Connected clients"),
            namespaces: gauge("mixlab_namespaces", "Open namespaces"),
            connections: counters(
                "mixlab_connections_total",
                "Connections to namespaces, by outcome: ok or the code of the refusal",
                &["outcome"],
            ),
            events: counters(
                "mixlab_events_total",
                "Events by plugin, declared name and outcome: ok, rejected, dropped or the code of the error",
                &[PLUGIN, EVENT, "outcome"],
            ),
            repeated: counters(
                "mixlab_repeated_calls_total",
                "Calls that ran again, because what they read from the store had changed",
                &[PLUGIN],
            ),
            timers_given_up: counters(
                "mixlab_timers_given_up_total",
                "Timers whose attempts have all failed",
                &[PLUGIN],
            ),
            rate_limited: counters(
                "mixlab_rate_limited_total",
                "Events and connections over a rate limit, by its scope",
                &["scope"],
            ),
            cluster_connected: gauges(
                "mixlab_cluster_connected",
                "Whether the servers of the cluster are heard of",
                &NO_LABELS,
            ),
            cluster_waiting_entries: gauges(
                "mixlab_cluster_waiting_entries",
                "What waits to be sent to the servers of the cluster",
                &NO_LABELS,
            ),
            cluster_waiting_bytes: gauges(
                "mixlab_cluster_waiting_bytes",
                "What the entries take that wait to be sent",
                &NO_LABELS,
            ),
            passed_on: counters(
                "mixlab_cluster_passed_on_total",
                "Requests that were passed on to the servers that have their sessions",
                &["outcome"],
            ),
            passed_on_websockets: gauges(
                "mixlab_cluster_passed_on_websockets",
                "Websockets that are carried to the servers that have their sessions",
                &NO_LABELS,
            ),
            dropped_emits: counter(
                "mixlab_dropped_emits_total",
                "Packets that found a client's send buffer full",
            ),
            refused_connections: counter(
                "mixlab_refused_connections_total",
                "Connections that came when all that there may be, or that their address may have, were taken",
            ),
            tls_handshakes: counters(
                "mixlab_tls_handshakes_total",
                "TLS handshakes with clients, by outcome: ok or why they failed",
                &["outcome"],
            ),
            tls_expiry: gauges(
                "mixlab_tls_certificate_expiry_seconds",
                "When a certificate expires, in seconds since 1970, by its first name",
                &["certificate"],
            ),
            calls: registered(&registry, calls),
            call_failures: counters(
                "mixlab_plugin_call_failures_total",
                "Calls that a plugin did not answer, by reason",
                &[PLUGIN, "reason"],
            ),
            requests: counters(
                "mixlab_plugin_http_requests_total",
                "Requests of plugins to other servers, by outcome: the class of the status, or why there is none",
                &[PLUGIN, "outcome"],
            ),
            plugin_memory: gauges(
                "mixlab_plugin_memory_bytes",
                "Memory of a plugin's instances, with what the host keeps of them",
                &[PLUGIN],
            ),
            plugin_state: gauges(
                "mixlab_plugin_state",
                "1 for the state that a plugin is in",
                &[PLUGIN, "state"],
            ),
            plugin_paused: gauges(
                "mixlab_plugin_paused",
                "1 while a plugin is paused for everybody, or switched off, since its calls failed",
                &[PLUGIN],
            ),
            plugin_paused_addresses: gauges(
                "mixlab_plugin_paused_addresses",
                "Addresses that a plugin is paused for, since their calls failed",
                &[PLUGIN],
            ),
            reloads,
            key_fetches: counters(
                "mixlab_key_fetches_total",
                "Times that the keys of an issuer were fetched, by result: ok or failed",
                &["issuer", "result"],
            ),
            process: Process::new(&registry),
            registry,
        }
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> C {
    registry
        .register(Box::new(metric.clone()))
        .expect("every name is registered once");
    metric
}

/// The counters of a bad and a good result. Both are shown from then on: Prometheus sees that a number grows, and
/// not that it begins with one.
fn both(counters: &IntCounterVec, of: &str, results: [&str; 2]) -> [IntCounter; 2] {
    results.map(|result| counters.with_label_values(&[of, result]))
}

/// Shows what somebody else has counted.
fn catch_up(shown: &IntCounter, counted: u64) {
    shown.inc_by(counted.saturating_sub(shown.get()));
}

/// Removes the series whose values of these labels are not wanted.
fn keep<B: MetricVecBuilder, const LABELS: usize>(
    metrics: &MetricVec<B>,
    labels: [&str; LABELS],
    is_wanted: impl Fn([&str; LABELS]) -> bool,
) where
    MetricVec<B>: Collector,
{
    for family in metrics.collect() {
        for metric in family.get_metric() {
            let pairs: HashMap<&str, &str> = metric
                .get_label()
                .iter()
                .map(|pair| (pair.name(), pair.value()))
                .collect();
            if !is_wanted(labels.map(|label| pairs[label])) {
                // It is gone already if another has removed it.
                metrics.remove(&pairs).ok();
            }
        }
    }
}

/// The counter of lines of the log that could not be written. Who starts the log has it before there
/// is a server, and adds it to the server's metrics.
pub(crate) fn lost_log_lines() -> IntCounter {
    IntCounter::new(
        "mixlab_log_lines_lost_total",
        "Lines of the log that nobody read in time, or that could not be written",
    )
    .expect("the name is valid")
}

/// How it is counted that a client was let in, or refused with a code or with what a plugin said.
pub(crate) fn outcome(refused: Option<&str>) -> &'static str {
    // A plugin may say anything.
    let known = [
        "unauthorized",
        "token_expired",
        "token_revoked",
        "issuer_unavailable",
        "rate_limited",
        "plugin_timeout",
        "plugin_error",
        "plugin_unavailable",
    ];
    let known = known.into_iter().find(|code| Some(*code) == refused);
    match refused {
        None => "ok",
        Some(_) => known.unwrap_or("rejected"),
    }
}

/// Counts lines that the audit log lacks.
pub(crate) fn lost_audit_lines() -> IntCounter {
    IntCounter::new(
        "mixlab_audit_lines_lost_total",
        "Lines of the audit log that could not be written",
    )
    .expect("the name is valid")
}

/// Counts calls that a record lacks.
pub(crate) fn lost_recorded_calls() -> IntCounter {
    IntCounter::new(
        "mixlab_record_lines_lost_total",
        "Calls and failures that are missing in the record, because its disk was too slow",
    )
    .expect("the name is valid")
}

/// Counts spans of traces that are recorded, by their outcome.
pub(crate) fn ended_spans() -> IntCounterVec {
    let opts = Opts::new(
        "mixlab_telemetry_spans_total",
        "Spans of recorded traces, by outcome: sent, dropped as too many waited, or failed as the collector did not take them",
    );
    IntCounterVec::new(opts, &["outcome"]).expect("the names are valid")
}

/// Counts what is sent of metrics, by its outcome.
pub(crate) fn exported_data_points() -> IntCounterVec {
    let opts = Opts::new(
        "mixlab_telemetry_data_points_total",
        "Data points of metrics, by outcome: sent to the collector, or failed as it did not take them",
    );
    IntCounterVec::new(opts, &["outcome"]).expect("the names are valid")
}

impl Metrics {
    /// Shows what others count with, too.
    pub(crate) fn add<C: Collector + Clone + 'static>(&self, counter: C) {
        registered(&self.registry, counter);
    }

    /// The counter of an event's good answers, to be kept for the event.
    pub fn event_ok(&self, plugin: &str, event: &str) -> IntCounter {
        self.events.with_label_values(&[plugin, event, "ok"])
    }

    /// Counts an event that was not answered as hoped.
    pub fn event_failed(&self, plugin: &str, event: &str, outcome: &str) {
        self.events
            .with_label_values(&[plugin, event, outcome])
            .inc();
    }

    /// Counts a timer whose attempts have all failed.
    pub fn timer_given_up(&self, plugin: &str) {
        self.timers_given_up.with_label_values(&[plugin]).inc();
    }

    /// Counts a call that runs again, because what it read has changed.
    pub fn call_repeated(&self, plugin: &str) {
        self.repeated.with_label_values(&[plugin]).inc();
    }

    /// Forgets what was counted for plugins and events that are not there any more. To be called by
    /// whoever loads them, and not while one is being loaded: its counters are there before it is.
    pub fn forget_gone(&self, live: &Live<'_>) {
        let has_plugin = |name: &str| name == NO_PLUGIN || live.contains_key(name);
        let has_event = |plugin: &str, event: &str| {
            plugin == NO_PLUGIN
                || live
                    .get(plugin)
                    .is_some_and(|events| events.contains(event))
        };
        keep(&self.events, [PLUGIN, EVENT], |[plugin, event]| {
            has_event(plugin, event)
        });
        keep(&self.calls, [PLUGIN], |[plugin]| has_plugin(plugin));
        keep(&self.repeated, [PLUGIN], |[plugin]| has_plugin(plugin));
        keep(&self.timers_given_up, [PLUGIN], |[plugin]| {
            has_plugin(plugin)
        });
        keep(&self.call_failures, [PLUGIN], |[plugin]| has_plugin(plugin));
        keep(&self.requests, [PLUGIN], |[plugin]| has_plugin(plugin));
        keep(&self.reloads, [WHAT], |[what]| {
            what == CONFIG_FILE || what == CERTIFICATES || has_plugin(what)
        });
    }

    /// Counts a connection that was let in, or refused with a code or with what a plugin said.
    pub fn connection(&self, refused: Option<&str>) {
        let outcome = outcome(refused);
        self.connections.with_label_values(&[outcome]).inc();
    }

    /// The counter of a scope's limits that were hit, to be kept for the limit.
    pub fn rate_limited(&self, scope: &str) -> IntCounter {
        self.rate_limited.with_label_values(&[scope])
    }

    /// The counter of TCP connections over the configured number.
    pub fn refused_connections(&self) -> IntCounter {
        self.refused_connections.clone()
    }

    /// The counters of TLS handshakes, by outcome.
    pub(crate) fn tls_handshakes(&self) -> IntCounterVec {
        self.tls_handshakes.clone()
    }

    /// Shows when certificates expire, in place of those that were shown before.
    pub(crate) fn show_certificates(&self, identity: &tls::Identity) {
        both(&self.reloads, CERTIFICATES, LOADS);
        self.tls_expiry.reset();
        for certificate in identity.certificates() {
            let expiry = certificate.not_after.duration_since(SystemTime::UNIX_EPOCH);
            self.tls_expiry
                .with_label_values(&[certificate.label()])
                .set(expiry.unwrap_or_default().as_secs() as i64);
        }
    }

    /// What is counted for a plugin's calls, to be kept for the plugin.
    pub fn calls_of(&self, plugin: &str) -> CallMetrics {
        // Shown from the beginning, so that Prometheus sees them grow.
        self.repeated.with_label_values(&[plugin]);
        self.timers_given_up.with_label_values(&[plugin]);
        CallMetrics {
            duration: self.calls.with_label_values(&[plugin]),
            failures: self.call_failures.clone(),
            requests: self.requests.clone(),
            plugin: plugin.to_owned(),
        }
    }

    /// Counts a load of a plugin, of `mixlab.toml` or of certificates.
    pub fn reloaded(&self, what: &str, ok: bool) {
        both(&self.reloads, what, LOADS)[usize::from(ok)].inc();
    }

    /// Counts an attempt to fetch the keys of an issuer.
    pub fn keys_fetched(&self, issuer: &str, ok: bool) {
        both(&self.key_fetches, issuer, ["failed", "ok"])[usize::from(ok)].inc();
    }

    /// Everything, with what is not counted but looked at.
    pub(crate) fn gather<'a>(
        &self,
        clients: usize,
        namespaces: usize,
        dropped_emits: u64,
        cluster: Option<cluster::Sample>,
        plugins: impl IntoIterator<Item = PluginSample<'a>>,
    ) -> Vec<MetricFamily> {
        self.clients.set(clients as i64);
        self.namespaces.set(namespaces as i64);
        self.process.look();
        catch_up(&self.dropped_emits, dropped_emits);
        if let Some(cluster) = cluster {
            let show =
                |gauge: &IntGaugeVec, value: i64| gauge.with_label_values(&NO_LABELS).set(value);
            show(&self.cluster_connected, cluster.is_connected.into());
            show(
                &self.cluster_waiting_entries,
                cluster.waiting_entries as i64,
            );
            show(&self.cluster_waiting_bytes, cluster.waiting_bytes as i64);
            let passed_on = cluster.passed_on;
            for (outcome, count) in [("ok", passed_on.answered), ("failed", passed_on.failed)] {
                catch_up(&self.passed_on.with_label_values(&[outcome]), count);
            }
            show(&self.passed_on_websockets, passed_on.websockets as i64);
        }
        self.plugin_memory.reset();
        self.plugin_state.reset();
        self.plugin_paused.reset();
        self.plugin_paused_addresses.reset();
        for plugin in plugins {
            let PluginSample {
                name,
                state,
                paused,
                paused_addresses,
                memory_bytes,
            } = plugin;
            self.plugin_paused
                .with_label_values(&[name])
                .set(paused.into());
            self.plugin_paused_addresses
                .with_label_values(&[name])
                .set(paused_addresses as i64);
            self.plugin_memory
                .with_label_values(&[name])
                .set(memory_bytes as i64);
            self.plugin_state.with_label_values(&[name, state]).set(1);
        }
        self.registry.gather()
    }
}

/// In Prometheus' text format.
pub(crate) fn text(families: &[MetricFamily]) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(families, &mut text)
        .expect("metrics always encode into memory");
    String::from_utf8(text).expect("the text format is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let buckets = [(1.0, 50), (2.0, 98), (4.0, 100)];
        for (of, count, expected) in [
            (0.25, 100, Some(0.5)),
            (0.5, 100, Some(1.0)),
            (0.99, 100, Some(3.0)),
            // More than the last bucket has.
            (0.99, 1000, Some(4.0)),
            (0.99, 0, None),
        ] {
            assert_eq!(quantile(of, buckets, count), expected, "{of} of {count}");
        }
    }

    #[test]
    fn series_go_with_the_plugins_and_events_that_they_are_of() {
        let metrics = Metrics::default();
        for (plugin, event) in [
            ("a", "stays"),
            ("a", "goes"),
            ("b", "stays"),
            (NO_PLUGIN, OTHER),
        ] {
            metrics.event_ok(plugin, event).inc();
            metrics.event_failed(plugin, event, "rate_limited");
        }
        for plugin in ["a", "b"] {
            metrics.calls_of(plugin).called(Duration::ZERO);
            metrics.calls_of(plugin).failed("trap");
            metrics.calls_of(plugin).requested("2xx");
            metrics.reloaded(plugin, true);
        }
        metrics.reloaded(CONFIG_FILE, true);
        metrics.forget_gone(&Live::from([("a", HashSet::from(["stays"]))]));
        let text = text(&metrics.gather(0, 0, 0, None, []));
        for (series, is_there) in [
            (
                r#"mixlab_events_total{event="stays",outcome="ok",plugin="a"} 1"#,
                true,
            ),
            (
                r#"mixlab_events_total{event="stays",outcome="rate_limited",plugin="a"} 1"#,
                true,
            ),
            (
                r#"mixlab_events_total{event="other",outcome="ok",plugin=""} 1"#,
                true,
            ),
            (r#"mixlab_plugin_call_seconds_count{plugin="a"} 1"#, true),
            (
                r#"mixlab_plugin_call_failures_total{plugin="a",reason="trap"} 1"#,
                true,
            ),
            (
                r#"mixlab_plugin_http_requests_total{outcome="2xx",plugin="a"} 1"#,
                true,
            ),
            (
                r#"mixlab_reloads_total{result="ok",what="mixlab.toml"} 1"#,
                true,
            ),
            (r#"event="goes""#, false),
            (r#"plugin="b""#, false),
            (r#"what="b""#, false),
        ] {
            assert_eq!(text.contains(series), is_there, "{series} in {text}");
        }
    }
}
