//! One plugin of `mixlab.toml`: its file, the version that serves, and why a newer one does not.

use std::{fs, io, path::Path, sync::Arc};

use sha2::{Digest, Sha256};

use super::{
    status::{PluginState, PluginStatus},
    watch::Stamp,
};
use crate::{
    admission::RateLimits,
    broadcast::Broadcast,
    config,
    metrics::Metrics,
    plugin::{Engine, Health, Plugin, Source},
    registry::Served,
};

type Hash = [u8; 32];

/// The place of a plugin, kept over all its generations.
pub struct Slot {
    spec: config::Plugin,
    /// The file as it was when it was last looked at.
    stamp: Option<Stamp>,
    /// The content that was tried last, with the specification of then; the same content is not
    /// tried twice.
    tried: Option<Hash>,
    generation: u64,
    served: Option<Arc<Served>>,
    refusal: Option<String>,
    health: Arc<Health>,
}

/// A file's content that has not been tried yet.
pub struct Candidate {
    source: Source,
    generation: u64,
    health: Arc<Health>,
}

impl Slot {
    /// Nothing loaded yet.
    pub fn new(spec: config::Plugin) -> Self {
        Self {
            spec,
            stamp: None,
            tried: None,
            generation: 0,
            served: None,
            refusal: None,
            health: Arc::default(),
        }
    }

    /// The same plugin as it is configured now.
    pub fn with_spec(mut self, spec: config::Plugin) -> Self {
        if self.spec != spec {
            // Other grants, budgets or settings: to be loaded again, whatever the file holds.
            self.tried = None;
            self.spec = spec;
        }
        self
    }

    /// The name in `mixlab.toml`.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The component's file.
    pub fn path(&self) -> &Path {
        &self.spec.path
    }

    /// The version that serves, if one does.
    pub fn served(&self) -> Option<&Arc<Served>> {
        self.served.as_ref()
    }

    /// Whether the file looks different from when it was last read.
    pub fn changed_on_disk(&self) -> bool {
        Stamp::of(&self.spec.path) != self.stamp
    }

    /// The file's content, unless the very same was tried already; an error says why the file
    /// cannot even be read.
    pub fn candidate(&mut self, breaker: &config::Breaker) -> Option<Result<Candidate, String>> {
        let stamp = Stamp::of(&self.spec.path);
        if stamp.is_some() && stamp == self.stamp && self.tried.is_some() {
            return None;
        }
        self.stamp = stamp;
        let bytes = match fs::read(&self.spec.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let reason = unreadable(&self.spec.path, &error);
                let known = self.refusal.as_ref() == Some(&reason);
                return (!known).then_some(Err(reason));
            }
        };
        let hash: Hash = Sha256::digest(&bytes).into();
        if self.tried == Some(hash) {
            // Touched, or put back after it was gone.
            if self.served.is_some() {
                self.refusal = None;
            }
            return None;
        }
        self.tried = Some(hash);
        let source = Source {
            name: self.spec.name.as_str().into(),
            bytes: bytes.into(),
            grants: Arc::new(self.spec.grants.clone()),
            config: self.spec.config.clone(),
            budget: self.spec.budget.clone(),
            breaker: breaker.clone(),
            on_failure: self.spec.on_failure,
        };
        let (generation, health) = (self.generation + 1, self.health.clone());
        Some(Ok(Candidate {
            source,
            generation,
            health,
        }))
    }

    /// Puts a new version in place; returns the former.
    pub fn serve(&mut self, served: Arc<Served>) -> Option<Arc<Served>> {
        self.generation = served.plugin.generation();
        self.refusal = None;
        self.served.replace(served)
    }

    /// Remembers why the newest file does not serve.
    pub fn refuse(&mut self, reason: String) {
        self.health.failed("load", reason.as_str());
        self.refusal = Some(reason);
    }

    /// For `plugin list` and health.
    pub fn status(&self) -> PluginStatus {
        let served = self.served.as_deref();
        PluginStatus {
            name: self.spec.name.clone(),
            state: match (served, &self.refusal) {
                (Some(_), None) => PluginState::Serving,
                (Some(_), Some(_)) => PluginState::ServingOld,
                (None, _) => PluginState::Refused,
            },
            version: served.map(|served| served.version.clone()),
            generation: self.generation,
            namespaces: served
                .map(|served| served.namespaces.clone())
                .unwrap_or_default(),
            events: served
                .map(|served| {
                    served
                        .routes
                        .iter()
                        .map(|r| r.contract.event.clone())
                        .collect()
                })
                .unwrap_or_default(),
            refusal: self.refusal.clone(),
            health: Some(self.health.clone()),
            plugin: served.map(|served| Arc::downgrade(&served.plugin)),
            path: self.spec.path.clone(),
        }
    }
}

impl Candidate {
    /// Loads it; an error says why it is refused.
    pub async fn load(
        self,
        engine: Arc<Engine>,
        broadcast: Broadcast,
        limits: &RateLimits,
        metrics: &Metrics,
    ) -> Result<Served, String> {
        let Self {
            source,
            generation,
            health,
        } = self;
        let calls = metrics.calls_of(&source.name);
        let (plugin, description) =
            Plugin::load(engine, broadcast, source, generation, health, calls)
                .await
                .map_err(|error| error.to_string())?;
        Served::new(plugin, description, limits, metrics).map_err(|error| error.to_string())
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{}: no such file", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}
