//! A record, as it was read.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use crate::record::{self, Call, Failed, Head, Instance, Line, ReadError};

/// A record.
pub(crate) struct Record {
    pub head: Head,
    /// In the order in which they ended.
    pub calls: Vec<Call>,
    /// How many are missing.
    pub lost: u64,
    /// Whether it was full before the server stopped.
    pub is_full: bool,
    instances: HashMap<u64, Instance>,
    /// By the numbers of the calls.
    failed: HashMap<u64, Failed>,
}

impl Record {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadError> {
        let (head, lines) = record::read(path)?;
        let mut record = Self {
            head,
            calls: Vec::new(),
            lost: 0,
            is_full: false,
            instances: HashMap::new(),
            failed: HashMap::new(),
        };
        for line in lines {
            match line {
                // Only the first line is one.
                Line::Record(_) => {}
                Line::Instance(instance) => {
                    record.instances.insert(instance.instance, instance);
                }
                Line::Call(call) => record.calls.push(*call),
                Line::Failed(failed) => _ = record.failed.insert(failed.call, failed),
                Line::Lost(calls) => record.lost += calls,
                Line::Full => record.is_full = true,
            }
        }
        Ok(record)
    }

    /// The plugins whose calls are in it.
    pub(crate) fn plugins(&self) -> BTreeSet<&str> {
        self.calls.iter().map(|call| call.plugin.as_str()).collect()
    }

    /// The instance that a call ran on. If that is missing, one of the same plugin.
    pub(crate) fn instance(&self, call: &Call) -> Instance {
        let its = self.instances.get(&call.instance);
        let of_plugin = || self.last_instance(&call.plugin);
        its.or_else(of_plugin).cloned().unwrap_or_else(|| Instance {
            instance: call.instance,
            plugin: call.plugin.clone(),
            config: serde_json::json!({}),
            grants: Vec::new(),
            seed: String::new(),
            answers: Vec::new(),
        })
    }

    /// The last instance of a plugin.
    pub(crate) fn last_instance(&self, plugin: &str) -> Option<&Instance> {
        let its = self.instances.values().filter(|it| it.plugin == plugin);
        its.max_by_key(|instance| instance.instance)
    }

    /// By what the failure of a call is known, if it failed.
    pub(crate) fn trace_id(&self, call: &Call) -> Option<&str> {
        let failed = self.failed.get(&call.call)?;
        Some(&failed.trace_id)
    }

    /// The call that failed with this id.
    pub(crate) fn traced(&self, trace_id: &str) -> Option<(&Call, &Failed)> {
        let failed = self.failed.values().find(|it| it.trace_id == trace_id)?;
        let call = self.calls.iter().find(|call| call.call == failed.call)?;
        Some((call, failed))
    }
}
