//! `[breaker]`: when a plugin that keeps failing is paused.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::duration;

/// `[breaker]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// So many failed calls in a row pause a plugin; 0 never does.
    pub failures: u32,
    /// How long the first pause is. Each further one is twice as long.
    #[serde(deserialize_with = "duration::deserialize")]
    pub pause: Duration,
    /// The longest pause.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 20,
            pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(60),
        }
    }
}
