//! What the running server says of its plugins.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Weak},
};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::versions::{Former, Load};
use crate::{
    config::{self, Budget},
    grant::Grants,
    inspection::Inspection,
    metrics::PluginSample,
    plugin::{Health, Migration, Pauses, Plugin},
};

/// A snapshot for `plugin list` and health.
#[derive(Default, Serialize)]
pub struct Status {
    /// Why the newest `mixlab.toml` is not in force; none if it is.
    pub config_error: Option<String>,
    /// Why the newest `mixlab.toml` is not in force yet, although nothing is wrong with it.
    pub config_waiting: Option<String>,
    /// Why the newest certificates are not shown to clients. Others are, so the server is ready all the same.
    pub certificate_error: Option<String>,
    /// In the order of `mixlab.toml`.
    pub plugins: Vec<PluginStatus>,
}

impl Status {
    /// What is not as the files say: `mixlab.toml` and the names of plugins. A file that is only waited
    /// for is no problem while an older one serves.
    pub fn problems(&self) -> Vec<&str> {
        let config = self.config_error.as_ref().map(|_| "mixlab.toml");
        let refused = self
            .plugins
            .iter()
            .filter(|plugin| plugin.refusal.is_some() || plugin.state == PluginState::Waiting);
        config
            .into_iter()
            .chain(refused.map(|plugin| plugin.name.as_str()))
            .collect()
    }

    /// The plugins without which nobody enters what they guard, and that are not there.
    pub fn missing_guards(&self) -> Vec<&str> {
        let missing = self.plugins.iter().filter(|plugin| plugin.keeps_out);
        missing.map(|plugin| plugin.name.as_str()).collect()
    }

    /// The plugins of which an older version serves than the file's, because somebody wanted that.
    pub fn rolled_back(&self) -> Vec<&str> {
        let plugins = self.plugins.iter();
        let rolled_back = plugins.filter(|plugin| plugin.state == PluginState::RolledBack);
        rolled_back.map(|plugin| plugin.name.as_str()).collect()
    }

    /// The plugins whose calls are paused in such a way.
    pub fn paused(&self, how: impl Fn(Pauses) -> bool) -> Vec<&str> {
        let paused = self.plugins.iter().filter(|plugin| how(plugin.paused()));
        paused.map(|plugin| plugin.name.as_str()).collect()
    }
}

/// How a plugin stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// The file's content serves.
    Serving,
    /// An older content serves, since the file's is refused.
    ServingOld,
    /// An older content serves, since somebody rolled the file's back.
    RolledBack,
    /// Nothing serves yet, since the file is still to come.
    Waiting,
    /// Nothing serves.
    Refused,
    /// It is switched off in `mixlab.toml`.
    Disabled,
}

/// One plugin.
pub struct PluginStatus {
    /// The name in `mixlab.toml`.
    pub name: String,
    /// How it stands.
    pub state: PluginState,
    /// The version that serves.
    pub version: Option<String>,
    /// The version of the form in which it stores, 0 if it has none.
    pub data_version: Option<u32>,
    /// What it did to what was stored before, if anything.
    pub migration: Option<Migration>,
    /// Which load serves, or was the last that did, counted from 1; 0 if none ever did.
    pub generation: u64,
    /// The namespaces it serves.
    pub namespaces: Vec<String>,
    /// The events it handles.
    pub events: Vec<String>,
    /// The events of other plugins that it filters.
    pub filters: Vec<String>,
    /// Whether it takes webhooks.
    pub webhooks: bool,
    /// Why the file's content does not serve.
    pub refusal: Option<String>,
    /// Why the file is not judged yet, although nothing is wrong with it.
    pub waiting: Option<String>,
    /// How its calls have been going, read when the status is serialised.
    pub health: Option<Arc<Health>>,
    /// The generation that serves.
    pub plugin: Option<Weak<Plugin>>,
    /// Its file.
    pub path: PathBuf,
    /// Whether nobody enters the namespaces that it guards, since no version of it serves.
    pub keeps_out: bool,
    /// The version that it can be rolled back to.
    pub(crate) rollback_to: Option<Former>,
    /// What is shown of one plugin only; none of one that is switched off.
    pub(crate) detail: Option<Arc<Detail>>,
}

/// What there is to say of one plugin beside its status.
pub(crate) struct Detail {
    /// What `mixlab.toml` grants it.
    pub grants: Grants,
    /// The namespaces that it guards.
    pub guards: Vec<String>,
    /// What one call may use up.
    pub budget: Budget,
    /// How large the file was that serves, with what a script imports.
    pub code_bytes: Option<usize>,
    /// What the version that serves says of itself.
    pub about: Option<Arc<Inspection>>,
    /// The last loads, the newest first.
    pub loads: Arc<VecDeque<Load>>,
}

impl PluginState {
    /// The word in lists and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::ServingOld => "serving-old",
            Self::RolledBack => "rolled-back",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Disabled => "disabled",
        }
    }
}

impl PluginStatus {
    /// Memory of its instances, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.serving().map_or(0, |plugin| plugin.memory_bytes())
    }

    /// Within how many milliseconds 99 of 100 calls have ended; none if there was no call, or nothing serves.
    fn p99_ms(&self) -> Option<f64> {
        let seconds = self.serving()?.p99()?;
        // As exact as the buckets are.
        Some((seconds * 1e6).round() / 1e3)
    }

    /// For whom it is paused right now because its calls kept failing.
    pub fn paused(&self) -> Pauses {
        self.serving()
            .map(|plugin| plugin.breaker().paused())
            .unwrap_or_default()
    }

    /// What metrics show of it.
    pub fn sample(&self) -> PluginSample<'_> {
        let paused = self.paused();
        PluginSample {
            name: &self.name,
            state: self.state.as_str(),
            paused: paused.everybody,
            paused_addresses: paused.addresses,
            memory_bytes: self.memory_bytes(),
        }
    }

    /// The generation that serves, as long as it does.
    pub(crate) fn serving(&self) -> Option<Arc<Plugin>> {
        self.plugin.as_ref()?.upgrade()
    }

    /// A plugin that is switched off.
    pub fn disabled(plugin: &config::Plugin) -> Self {
        Self {
            name: plugin.name.clone(),
            state: PluginState::Disabled,
            version: None,
            data_version: None,
            migration: None,
            generation: 0,
            namespaces: Vec::new(),
            events: Vec::new(),
            filters: Vec::new(),
            webhooks: false,
            refusal: None,
            waiting: None,
            health: None,
            plugin: None,
            path: plugin.path.clone(),
            keeps_out: false,
            rollback_to: None,
            detail: None,
        }
    }
}

impl Serialize for PluginStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let health = self.health.as_deref();
        let paused = self.paused();
        let mut fields = serializer.serialize_struct("plugin", 21)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("state", &self.state)?;
        fields.serialize_field("version", &self.version)?;
        fields.serialize_field("data_version", &self.data_version)?;
        fields.serialize_field("migration", &self.migration)?;
        fields.serialize_field("generation", &self.generation)?;
        fields.serialize_field("namespaces", &self.namespaces)?;
        fields.serialize_field("events", &self.events)?;
        fields.serialize_field("filters", &self.filters)?;
        fields.serialize_field("webhooks", &self.webhooks)?;
        fields.serialize_field("refusal", &self.refusal)?;
        fields.serialize_field("waiting", &self.waiting)?;
        fields.serialize_field("calls", &health.map_or(0, Health::calls))?;
        fields.serialize_field("failures", &health.map_or(0, Health::failures))?;
        fields.serialize_field("p99_ms", &self.p99_ms())?;
        fields.serialize_field("last_failure", &health.and_then(Health::last_failure))?;
        fields.serialize_field("paused", &paused.everybody)?;
        fields.serialize_field("paused_addresses", &paused.addresses)?;
        fields.serialize_field("memory_bytes", &self.memory_bytes())?;
        fields.serialize_field("path", &self.path)?;
        fields.serialize_field("rollback_to", &self.rollback_to)?;
        fields.end()
    }
}
