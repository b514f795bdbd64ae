//! `[history]`: what is kept of topics.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Size, duration};

/// `[history]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// How many topics there may be, at least 1.
    pub topics: usize,
    /// How many events of a topic are kept, at least 1.
    pub events: usize,
    /// How much memory these may take.
    pub topic_bytes: Size,
    /// How much memory all of them may take.
    pub bytes: Size,
    /// How long they are kept.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self {
            topics: 10_000,
            events: 100,
            topic_bytes: Size::mib(1),
            bytes: Size::mib(64),
            max_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}
