//! `[presence]`: how many may be present in rooms, and what is kept of them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Size, duration};

/// `[presence]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// How many rooms may have somebody present, at least 1.
    pub rooms: usize,
    /// How many may be present in one of them, at least 1.
    pub users: usize,
    /// How much data there may be of each.
    pub data: Size,
    /// How much memory all of them may take.
    pub bytes: Size,
    /// How long a connection that dropped counts as away; if none is said, as long as it may come back.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub grace: Option<Duration>,
    /// How long changes are collected.
    #[serde(deserialize_with = "duration::deserialize")]
    pub batch: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            rooms: 10_000,
            users: 10_000,
            data: Size::kib(1),
            bytes: Size::mib(64),
            grace: None,
            batch: Duration::from_millis(200),
        }
    }
}
