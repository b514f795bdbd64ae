//! `[telemetry]`

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Secret;
use crate::{http_client::Destination, units::duration};

/// `[telemetry]`, with its secrets looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Where a collector takes OTLP over HTTP; none for no telemetry.
    pub endpoint: Option<Destination>,
    /// What requests to it have besides. Their values are marked as sensitive: nothing shows them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which share of the traces that begin here is recorded, from 0 to 1.
    pub sample: f64,
    /// Whether metrics are sent, too.
    pub metrics: bool,
    /// How often.
    pub interval: Duration,
    /// What is said of this server beside its name, version and instance.
    pub resource: BTreeMap<String, String>,
}

/// `[telemetry]`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct TelemetryFile {
    pub endpoint: Option<String>,
    pub headers: BTreeMap<String, Secret>,
    pub sample: f64,
    pub metrics: bool,
    #[serde(deserialize_with = "duration::deserialize")]
    pub interval: Duration,
    pub resource: BTreeMap<String, String>,
}

impl Default for TelemetryFile {
    fn default() -> Self {
        let Telemetry {
            sample,
            metrics,
            interval,
            ..
        } = Telemetry::default();
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            sample,
            metrics,
            interval,
            resource: BTreeMap::new(),
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: Vec::new(),
            // A busy server has more to tell than a collector wants to keep.
            sample: 0.01,
            metrics: true,
            interval: Duration::from_secs(60),
            resource: BTreeMap::new(),
        }
    }
}
