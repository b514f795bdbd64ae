//! `[recovery]`: what clients get that come back.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Size, duration};

/// `[recovery]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// Whether a client that comes back gets what it missed.
    pub enabled: bool,
    /// How long it may be away.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
    /// How many connections that dropped are kept, of all namespaces together, at least 1.
    pub max_clients: usize,
    /// How many broadcasts of a namespace are kept, at least 1.
    pub max_events: usize,
    /// How much memory they may take, of all namespaces together, and again what is sent to single
    /// connections.
    pub max_bytes: Size,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            enabled: true,
            max_age: Duration::from_secs(120),
            max_clients: 20_000,
            max_events: 10_000,
            max_bytes: Size::mib(32),
        }
    }
}
