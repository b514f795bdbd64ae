//! What one call of a plugin may use up.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Size, duration};

/// `[budget]`, with the overrides of a plugin where it is that plugin's.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// CPU time of one call.
    pub cpu: Duration,
    /// Time on the clock of one call, with the host's part of it. Not less than `cpu`.
    pub wall: Duration,
    /// Memory of one instance, all its memories and tables together.
    pub memory: Size,
    /// Bytes that one call takes and gives, event and effects together.
    pub boundary: Size,
    /// Calls to the host in one call.
    pub host_calls: usize,
    /// Effects of one call: emits, joins, leaves and the like.
    pub effects: usize,
    /// Log text of one call.
    pub log: Size,
    /// What the plugin keeps with one connection.
    pub data: Size,
    /// The component file.
    pub file: Size,
    /// CPU time that it may take to compile.
    pub compile: Duration,
    /// Time on the clock for all batches of a migration, in which calls of the plugin wait.
    pub migration: Duration,
    /// How many instances run side by side, at least 1.
    pub instances: usize,
    /// How many of them may wait for acks of clients at once, if not half of them.
    pub asks: Option<usize>,
    /// How many calls may wait for other servers at once, if not as many as there are instances.
    pub requests: Option<usize>,
}

impl Budget {
    /// How many calls may wait for other servers at once. None where there is one instance, which
    /// others would wait for, unless that was written.
    pub fn requests(&self) -> usize {
        let unless_said = if self.instances > 1 {
            self.instances
        } else {
            0
        };
        self.requests.unwrap_or(unless_said)
    }

    /// How many instances may wait for acks of clients at once. Never all of them unless that was
    /// written: clients that answer nothing would stop the plugin.
    pub fn asks(&self) -> usize {
        self.asks.unwrap_or(self.instances / 2)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(50),
            wall: Duration::from_secs(5),
            memory: Size::mib(64),
            boundary: Size::mib(8),
            host_calls: 10_000,
            effects: 1_000,
            log: Size::kib(64),
            data: Size::kib(16),
            file: Size::mib(32),
            compile: Duration::from_secs(60),
            migration: Duration::from_secs(60),
            instances: 4,
            asks: None,
            requests: None,
        }
    }
}

/// The keys of a budget that were written: in `[budget]` over the defaults, in a plugin's
/// `budget` over `[budget]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BudgetFile {
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub cpu: Option<Duration>,
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub wall: Option<Duration>,
    pub memory: Option<Size>,
    pub boundary: Option<Size>,
    pub host_calls: Option<usize>,
    pub effects: Option<usize>,
    pub log: Option<Size>,
    pub data: Option<Size>,
    pub file: Option<Size>,
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub compile: Option<Duration>,
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub migration: Option<Duration>,
    pub instances: Option<usize>,
    pub asks: Option<usize>,
    pub requests: Option<usize>,
}

impl BudgetFile {
    /// The budget with what was written over `base`.
    pub(in crate::config) fn over(&self, base: &Budget) -> Budget {
        Budget {
            cpu: self.cpu.unwrap_or(base.cpu),
            wall: self.wall.unwrap_or(base.wall),
            memory: self.memory.unwrap_or(base.memory),
            boundary: self.boundary.unwrap_or(base.boundary),
            host_calls: self.host_calls.unwrap_or(base.host_calls),
            effects: self.effects.unwrap_or(base.effects),
            log: self.log.unwrap_or(base.log),
            data: self.data.unwrap_or(base.data),
            file: self.file.unwrap_or(base.file),
            compile: self.compile.unwrap_or(base.compile),
            migration: self.migration.unwrap_or(base.migration),
            instances: self.instances.unwrap_or(base.instances),
            asks: self.asks.or(base.asks),
            requests: self.requests.or(base.requests),
        }
    }
}
