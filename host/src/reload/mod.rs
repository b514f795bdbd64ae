//! Plugins and `mixlab.toml` follow the files they came from while clients stay connected.
//!
//! One task does all loading and unloading, so that two changes can never race: file event →
//! debounce → content hash → load → publish. Whatever fails leaves the old version serving and
//! says why; what fails for a passing reason is tried again.

mod builds;
mod certificates;
mod configuration;
mod file;
mod following;
mod loading;
mod matching;
mod publishing;
mod pull;
mod request;
mod slot;
mod status;
mod versions;
mod watch;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch::Sender as Watched;

pub use self::status::Status;
pub(crate) use self::{
    builds::{Builds, FailedBuild},
    pull::pull_missing,
    request::{Asked, NotDone, Request, Step},
    status::{PluginState, PluginStatus},
    versions::Load,
};
use self::{
    certificates::Certificates, file::Followed, loading::Loaded, matching::Matched, slot::Slot,
};
use crate::{
    admission::RateLimits,
    audit::Audit,
    auth::Providers,
    config::{Config, Overrides},
    metrics::Metrics,
    plugin::{Engine, Services},
    registry,
    revocation::Revocations,
    settings, tls,
};

/// Where the configuration comes from, to be read again when it changes.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// What the command line said over it.
    pub overrides: Overrides,
    /// The builds of plugins, if this process builds them from their sources.
    pub builds: Option<Arc<Builds>>,
}

/// Which files to deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    /// Those that look different from when they were last dealt with, when they have come to rest.
    Changed,
    /// All of them, as they are now: somebody asked.
    All,
}

/// What follows the files.
pub(crate) struct Targets {
    /// Who handles what.
    pub registry: registry::Current,
    /// What of `mixlab.toml` changes while the server runs.
    pub settings: settings::Current,
    /// What plugins share.
    pub services: Services,
    /// What clients are shown, where there is TLS.
    pub tls: Option<tls::Current>,
    /// Counts loads.
    pub metrics: Arc<Metrics>,
    /// Who may do what from now on.
    pub audit: Audit,
    /// Whose keys are fetched.
    pub providers: Arc<Providers>,
    /// Tokens that are good no more.
    pub revocations: Arc<Revocations>,
}

/// Loads plugins and keeps them current. To be driven by [`Reloader::run`].
pub(crate) struct Reloader {
    config: Config,
    /// What the server was started with: what needs a restart is held against this.
    started: Config,
    source: Option<ConfigSource>,
    secret: Arc<[u8]>,
    slots: Vec<Slot>,
    /// The last generations of plugins that were switched off: a number never means two versions.
    generations: HashMap<String, u64>,
    limits: Arc<RateLimits>,
    engine: Arc<Engine>,
    targets: Targets,
    /// Why the newest `mixlab.toml` is not in force.
    config_error: Option<String>,
    /// Why it is not in force yet.
    config_waiting: Option<String>,
    config_file: Followed,
    certificates: Option<Certificates>,
    status: Arc<ArcSwap<Status>>,
    published: Watched<()>,
}

impl Reloader {
    /// Nothing is loaded yet. `published` tells who cares that plugins have changed.
    pub(crate) fn new(
        config: Config,
        source: Option<ConfigSource>,
        secret: Arc<[u8]>,
        engine: Arc<Engine>,
        targets: Targets,
        limits: Arc<RateLimits>,
        published: Watched<()>,
    ) -> Self {
        let certificates = targets.tls.clone().zip(config.tls.clone());
        let certificates = certificates.map(|(published, config)| {
            targets.metrics.show_certificates(&published.load());
            Certificates::new(published, config)
        });
        Self {
            started: config.clone(),
            config,
            source,
            secret,
            slots: Vec::new(),
            generations: HashMap::new(),
            limits,
            engine,
            targets,
            config_error: None,
            config_waiting: None,
            // It may have changed since the configuration was read.
            config_file: Followed::default(),
            certificates,
            status: Arc::default(),
            published,
        }
    }

    /// What `plugin list` and health show; always the latest.
    pub(crate) fn status(&self) -> Arc<ArcSwap<Status>> {
        self.status.clone()
    }

    /// Brings everything in line with the files as they are now.
    pub(crate) async fn refresh(&mut self) {
        self.follow(Files::All, None).await;
    }

    /// Brings everything in line with these files.
    async fn follow(&mut self, files: Files, by: Option<Arc<str>>) {
        self.follow_config(files).await;
        // Without it, the next start will be without TLS.
        let tls = self.config.tls.as_ref().or(self.started.tls.as_ref());
        if let (Some(certificates), Some(config)) = (&mut self.certificates, tls) {
            let metrics = &self.targets.metrics;
            certificates.follow(config, files, metrics).await;
        }
        if files == Files::All {
            self.slots.iter_mut().for_each(Slot::reconsider);
        }
        let matched = self.match_slots();
        let loaded = self.load_all(files, by).await;
        self.settle(matched, loaded, files).await;
    }

    /// Publishes what has changed.
    async fn settle(&mut self, matched: Matched, loaded: Loaded, files: Files) {
        let Matched {
            reordered,
            switched_off,
            regranted,
        } = matched;
        // Namespaces that are no longer granted are no longer served, whether it loads or not.
        let mut changed = reordered || switched_off || regranted || loaded.any;
        if switched_off || regranted || loaded.replaced {
            for slot in &mut self.slots {
                slot.unblock();
            }
            changed |= self.load_all(files, None).await.any;
        }
        if changed {
            self.publish();
        }
        self.forget_gone();
        self.report();
    }
}
