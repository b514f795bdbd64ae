//! What a server would be like: everything is loaded, and nothing served.

use std::sync::Arc;

use super::{
    StartError,
    addresses::addresses,
    builder::unusable_audit,
    core::{Around, Core},
    identity, secret,
};
use crate::{
    audit::Audit,
    config::Config,
    contracts::Contracts,
    reload::{PluginStatus, Status, pull_missing},
    store::Store,
};

/// What [`check`] has found.
pub(crate) struct Checked {
    /// How each plugin stands.
    pub status: Arc<Status>,
    /// What a server would start with, and clients would not take.
    pub faults: Vec<String>,
    /// What is likely a mistake, beside what the configuration alone shows.
    pub doubts: Vec<String>,
}

impl Checked {
    /// Why clients would not be served as configured.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let plugins = self.status.plugins.iter().filter_map(|plugin| {
            let reason = plugin.refusal.as_ref()?;
            Some(format!("{}: {reason}", plugin.name))
        });
        self.faults.iter().cloned().chain(plugins).collect()
    }
}

/// Loads all plugins, without serving, for what they say of their events.
pub(crate) async fn contracts(config: &Config) -> Result<(Contracts, Arc<Status>), StartError> {
    pull_missing(config).await.map_err(StartError::NotPulled)?;
    let around = Around {
        store: Store::rehearsal(config.store.clone()),
        ..Around::alone(config)?
    };
    let mut core = Core::new(config, None, secret(config), around);
    core.reloader.refresh().await;
    let registry = core.dispatcher.registry.load();
    let contracts = Contracts::of(&registry, config.auth.enabled);
    Ok((contracts, core.reloader.status().load_full()))
}

/// Reads certificates and loads all plugins as [`Server::start`] does, without serving.
pub(crate) async fn check(config: &Config) -> Result<Checked, StartError> {
    addresses(config).await?;
    let identity = identity(config).await?;
    Audit::rehearse(&config.audit).map_err(|source| unusable_audit(&config.audit, source))?;
    pull_missing(config).await.map_err(StartError::NotPulled)?;
    let store = Store::rehearsal(config.store.clone());
    let around = Around {
        store: store.clone(),
        ..Around::alone(config)?
    };
    let mut core = Core::new(config, None, secret(config), around);
    core.reloader.refresh().await;
    let (faults, mut doubts) = identity.map_or_else(Default::default, |identity| identity.doubts());
    doubts.extend(store.unseen().map(str::to_owned));
    let status = core.reloader.status().load_full();
    let served = status.plugins.iter().filter_map(PluginStatus::serving);
    doubts.extend(served.filter_map(|plugin| plugin.doubt_of_grants()));
    Ok(Checked {
        status,
        faults,
        doubts,
    })
}
