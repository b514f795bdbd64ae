//! `[runtime]`: where and how plugins run.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::duration;

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Threads for plugin calls that take long, at least 1.
    pub threads: usize,
    /// How often a running plugin is looked at; CPU budgets are counted in ticks.
    #[serde(deserialize_with = "duration::deserialize")]
    pub tick: Duration,
    /// The folder for compiled code: as configured, else `mixlab` in the user's cache folder.
    /// None if there is no such folder either; nothing is cached then, since code from a folder
    /// that others can write to must not be run.
    pub cache: Option<PathBuf>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            threads: 2,
            tick: Duration::from_millis(1),
            cache: None,
        }
    }
}
