//! What a component says of itself, without a server: what it asks for and what it handles.

mod diff;
mod schema_diff;

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use serde::Serialize;

pub use diff::{Change, diff};

pub use crate::declared::{Emit, Event};
use crate::{
    admission::RateLimits,
    broadcast::Broadcast,
    config::{self, Config},
    declared::Declared,
    grant::Grants,
    guest::Description,
    history::History,
    http_client::HttpClient,
    metrics::Metrics,
    plugin::{Code, Engine, Health, Migration, Plugin, Services, Source},
    registry::Served,
    store::Store,
    transport::Namespaces,
};

/// A component's own words, checked as at load.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Its name for itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The namespaces it serves.
    pub namespaces: Vec<String>,
    /// The grants that it cannot be loaded without, or not emit what it says it emits.
    pub requests: Vec<String>,
    /// The grants that its calls may need besides. Only a call says which room, or whose socket.
    pub may_request: Vec<String>,
    /// Whether it wants to know of connections.
    pub connections: bool,
    /// The events of other plugins that it filters.
    pub filters: Vec<String>,
    /// Whether it takes webhooks.
    pub webhooks: bool,
    /// The version of the form in which it stores; 0 if it says none.
    pub data_version: u32,
    /// What it has stored, as the plugin of `mixlab.toml` that it is the file of.
    pub stored: Option<Stored>,
    /// The events it handles, by name.
    pub events: Vec<Event>,
    /// The events it says it emits, by name.
    pub emits: Vec<Emit>,
}

/// What a server would load a component with, beside its grants.
pub struct Settings {
    /// How the engine runs, and where compiled components are kept.
    pub runtime: config::Runtime,
    /// What the component may use up.
    pub budget: config::Budget,
    /// The JSON text that it is described with.
    pub config: String,
    /// The plugin in `mixlab.toml` whose file it is, and the store that this one has.
    pub own: Option<(String, config::Store)>,
}

/// What is stored, and what would become of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// In the form that the component knows, of this data version.
    Fits(u32),
    /// In an earlier one.
    Migrates(Migration),
    /// It cannot have it, or nobody knows, for this reason.
    Unfit(String),
}

impl Settings {
    /// Those of the plugin whose file is one of these, the earlier the better; of none in particular if
    /// there is none.
    pub fn of(config: &Config, files: &[&Path]) -> Self {
        let plugins = files.iter().filter_map(|file| {
            let file = std::fs::canonicalize(file).ok()?;
            let is_its = |plugin: &&config::Plugin| {
                std::fs::canonicalize(&plugin.path).is_ok_and(|path| path == file)
            };
            let mut its = config.plugins.iter().filter(is_its);
            its.clone()
                .find(|plugin| plugin.enabled)
                .or_else(|| its.next())
        });
        let plugin = plugins.into_iter().next();
        let (budget, json) = match plugin {
            Some(plugin) => (&plugin.budget, plugin.config.clone()),
            None => (&config.budget, "{}".to_owned()),
        };
        let own = plugin.map(|plugin| (plugin.name.clone(), config.store.clone()));
        Self {
            runtime: config.runtime.clone(),
            budget: budget.clone(),
            config: json,
            own,
        }
    }
}

/// Loads a component as a server would that grants everything.
pub async fn inspect(path: &Path, settings: &Settings) -> Result<Inspection, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let read = Code::read(path, settings.budget.file).map_err(|error| named(&error))?;
    let code = read.code.map_err(|reason| named(&reason))?;
    let engine = Engine::start(&settings.runtime).map_err(|error| named(&error))?;
    let file_name = path.file_stem().unwrap_or_default().to_string_lossy();
    let (name, store) = match &settings.own {
        Some((name, store)) => (name.as_str(), Store::rehearsal(store.clone())),
        None => (&*file_name, Store::new(config::Store::in_memory())),
    };
    // What is wrong with it is no matter of the component.
    let (store, unseen) = match store.open() {
        Ok(_) => (store, None),
        Err(error) => (
            Store::new(config::Store::in_memory()),
            Some(error.to_string()),
        ),
    };
    let source = Source {
        name: name.into(),
        code,
        grants: Arc::new(ArcSwap::from_pointee(Grants::all())),
        http: Vec::new(),
        config: settings.config.clone(),
        budget: settings.budget.clone(),
        breaker: config::Breaker::default(),
        on_failure: config::OnFailure::default(),
        guards: Vec::new(),
        filter: config::Filter::default(),
        webhook: config::Webhook::default(),
        shared_limits: false,
    };
    let metrics: Arc<Metrics> = Arc::default();
    let calls = metrics.calls_of(&source.name);
    let broadcast = Broadcast::new(
        Arc::new(Namespaces::new(
            config::Recovery::default(),
            config::Presence::default(),
            &config::Socket::default(),
            None,
        )),
        Arc::new(History::new(config::History::default())),
        None,
    );
    let health: Arc<Health> = Arc::default();
    let services = Services {
        broadcast,
        store: store.clone(),
        http: HttpClient::on_this_runtime(),
        witness: None,
        recorder: None,
    };
    let loading = Plugin::load(Arc::new(engine), services, source, 1, health, calls);
    let (plugin, description) = loading.await.map_err(|error| named(&error))?;
    let mut inspection = Inspection::new(&description, &plugin);
    let limits = Arc::new(RateLimits::new(metrics.clone()));
    let served = Served::new(plugin, description, limits, metrics).await;
    let served = served.map_err(|error| named(&error))?;
    if settings.own.is_some() && served.plugin.store().is_some() {
        let unseen = unseen.or_else(|| store.unseen().map(str::to_owned));
        inspection.stored = match unseen {
            Some(reason) => Some(Stored::Unfit(reason)),
            None => Stored::of(&served.plugin).await,
        };
    }
    Ok(inspection)
}

impl Stored {
    /// None: the plugin says nothing of its form, and is in none.
    async fn of(plugin: &Arc<Plugin>) -> Option<Self> {
        match plugin.migrate(None).await {
            Ok(None) => match plugin.data_version() {
                0 => None,
                version => Some(Self::Fits(version)),
            },
            Ok(Some(migrated)) => Some(Self::Migrates(migrated.done().clone())),
            Err(error) => Some(Self::Unfit(error.to_string())),
        }
    }
}

impl Inspection {
    /// Of a plugin that has been loaded, and what it said then; nothing is said of what it has stored.
    pub(crate) fn new(description: &Description, plugin: &Plugin) -> Self {
        let Declared { events, emits } = Declared::of(description);
        let mut namespaces = description.namespaces.clone();
        if namespaces.is_empty() {
            namespaces.push("/".to_owned());
        }
        let (mut requests, mut may_request) = (Vec::new(), Vec::new());
        for request in plugin.requests() {
            match *request {
                "emit" if !emits.is_empty() => {
                    requests.extend(emits.iter().map(|emit| format!("emit:{}", emit.name)));
                    may_request.push("emit:EVENT".to_owned());
                }
                request => requests.push(request.to_owned()),
            }
        }
        let named = namespaces.iter().filter(|path| *path != "/");
        requests.extend(named.map(|path| format!("namespace:{path}")));
        let filtered = description.filters.iter();
        requests.extend(filtered.map(|event| format!("filter:{event}")));
        if plugin.takes_webhooks() {
            may_request.push("webhook:unverified".to_owned());
        }
        may_request.extend(plugin.may_request().iter().copied().map(str::to_owned));
        Self {
            name: description.name.clone(),
            version: description.version.clone(),
            namespaces,
            requests,
            may_request,
            connections: plugin.wants_connections(),
            filters: description.filters.clone(),
            webhooks: plugin.takes_webhooks(),
            data_version: plugin.data_version(),
            stored: None,
            events,
            emits,
        }
    }
}
