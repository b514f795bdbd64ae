//! `[reload]`: how a changed plugin replaces the one that runs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::duration;

/// `[reload]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// How long a file must be left alone before it is read.
    #[serde(deserialize_with = "duration::deserialize")]
    pub debounce: Duration,
    /// How long calls under way may go on in a plugin that was replaced.
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(100),
            drain: Duration::from_secs(30),
        }
    }
}
