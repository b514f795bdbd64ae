//! What is said of the collector: where it is, and the headers with their secrets.

use std::{ops::RangeInclusive, time::Duration};

use super::Resolver;
use crate::config::problem::key;
use crate::config::{Telemetry, sections::telemetry::TelemetryFile};
use crate::http_client::Destination;

/// How often metrics may be sent: not so often that to gather them is what costs.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// More than any server is known by.
const MAX_ATTRIBUTES: usize = 64;

impl Resolver<'_> {
    pub(super) fn telemetry(&mut self, file: TelemetryFile) -> Telemetry {
        let TelemetryFile {
            endpoint,
            headers,
            sample,
            metrics,
            interval,
            resource,
        } = file;
        self.check(
            "telemetry.sample",
            (0.0..=1.0).contains(&sample),
            "must be 0 to 1",
        );
        self.check(
            "telemetry.interval",
            INTERVALS.contains(&interval),
            "must be 1s to 1h",
        );
        self.check(
            "telemetry.resource",
            resource.len() <= MAX_ATTRIBUTES,
            &format!("must not have more than {MAX_ATTRIBUTES} keys"),
        );
        let endpoint = endpoint.and_then(|url| match Destination::parse(&url) {
            Ok(endpoint) if endpoint.has_query() => {
                let message = "must not have a query: it is what the paths of OTLP follow";
                self.check("telemetry.endpoint", false, message);
                None
            }
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                self.check("telemetry.endpoint", false, &error.to_string());
                None
            }
        });
        let names_a_secret = !headers.is_empty();
        if let Some(endpoint) = &endpoint {
            let message = "has headers that others could read on the way: use https";
            let is_safe = !names_a_secret || endpoint.is_safe_from_others();
            self.check("telemetry.endpoint", is_safe, message);
        }
        Telemetry {
            endpoint,
            headers: self.headers(&key("telemetry"), "headers", headers),
            sample,
            metrics,
            interval,
            resource,
        }
    }
}
