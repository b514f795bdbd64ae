//! One kind of what a collector is sent, its traces or its metrics, and how that fares.

use std::time::{Duration, SystemTime};

use http::{StatusCode, Uri, header};
use prometheus::{IntCounter, IntCounterVec};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{harmless, http_client::Answer, rarely::Rarely, shorten::shortened};

/// How long a collector may have nothing sent at most, in its `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// So much is shown of what a collector says, in characters.
const MAX_MESSAGE: usize = 200;

/// Where one kind is sent, and how that fares. A collector may take one and not the other.
pub(super) struct Signal {
    name: &'static str,
    uri: Uri,
    /// Spans, or data points of metrics.
    sent: IntCounter,
    failed: IntCounter,
    /// Whether what was sent last was not taken.
    is_down: bool,
    /// Nothing is sent before.
    not_before: Instant,
    /// When it was said last that a part was not taken.
    in_part: Rarely,
}

/// Why a request was not taken.
pub(super) struct Refusal {
    reason: String,
    /// Whether it may be taken later.
    pub is_passing: bool,
    /// For how long nothing is to be sent.
    retry_after: Duration,
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
    #[serde(alias = "rejectedSpans", alias = "rejectedDataPoints")]
    rejected: serde_json::Value,
    error_message: String,
}

impl Signal {
    /// `counters` have what is sent by its outcome.
    pub(super) fn new(name: &'static str, uri: Uri, counters: &IntCounterVec) -> Self {
        Self {
            name,
            uri,
            sent: counters.with_label_values(&["sent"]),
            failed: counters.with_label_values(&["failed"]),
            is_down: false,
            not_before: Instant::now(),
            in_part: Rarely::default(),
        }
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down
    }

    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Has nothing be sent before.
    pub(super) fn wait_until(&mut self, then: Instant) {
        self.not_before = self.not_before.max(then);
    }

    /// So many were sent, and this was answered, with success.
    pub(super) fn was_taken(&mut self, answer: &Answer, count: u64) {
        let name = self.name;
        if std::mem::take(&mut self.is_down) {
            tracing::info!("the collector of [telemetry] takes {name} again");
        }
        let PartialSuccess {
            rejected,
            error_message: said,
        } = PartialSuccess::of(answer);
        let text = rejected.as_str().and_then(|text| text.parse().ok());
        let rejected = text.or_else(|| rejected.as_u64()).unwrap_or_default();
        let rejected = rejected.min(count);
        self.failed.inc_by(rejected);
        self.sent.inc_by(count - rejected);
        // Without any that it has not taken, it is advice.
        if rejected > 0 || !said.is_empty() {
            self.in_part.say(|| {
                let said = shortened(&harmless::in_one_line(&said), MAX_MESSAGE);
                tracing::warn!(
                    rejected,
                    "the collector of [telemetry] says of {name}: {said}"
                );
            });
        }
    }

    /// What was sent was not taken.
    pub(super) fn was_refused(&mut self, refusal: &Refusal) {
        let Refusal {
            reason,
            retry_after,
            ..
        } = refusal;
        if !std::mem::replace(&mut self.is_down, true) {
            let (name, collector) = (self.name, &self.uri);
            tracing::warn!(%collector, "the collector of [telemetry] does not take {name}: {reason}");
        }
        self.wait_until(Instant::now() + *retry_after);
    }

    /// So many will not be sent any more.
    pub(super) fn lost(&self, count: u64) {
        self.failed.inc_by(count);
    }
}

impl Refusal {
    /// By an answer.
    pub(super) fn of(answer: &Answer) -> Self {
        let is_passing = matches!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let asked = answer.headers.get(header::RETRY_AFTER);
        let asked = asked.and_then(|value| retry_after(value.to_str().ok()?));
        Self {
            reason: format!("it answers with status {}", answer.status.as_u16()),
            is_passing,
            retry_after: asked.filter(|_| is_passing).unwrap_or_default(),
        }
    }

    /// There was no answer.
    pub(super) fn without_answer(reason: String) -> Self {
        Self {
            reason,
            is_passing: true,
            retry_after: Duration::ZERO,
        }
    }
}

/// Seconds, or the date of HTTP.
fn retry_after(text: &str) -> Option<Duration> {
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            until.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

impl PartialSuccess {
    /// Nothing, where an answer does not say that it is one.
    fn of(answer: &Answer) -> Self {
        let taken: Taken = serde_json::from_slice(&answer.body).unwrap_or_default();
        taken.partial_success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_waited_for_within_bounds() {
        let date = |seconds| {
            let at = SystemTime::now() + Duration::from_secs(seconds);
            retry_after(&httpdate::fmt_http_date(at)).unwrap()
        };
        assert_eq!(retry_after("60"), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("86400"), Some(MAX_RETRY_AFTER));
        assert!((58..=60).contains(&date(60).as_secs()));
        assert_eq!(date(86_400), MAX_RETRY_AFTER);
        let past = retry_after("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
