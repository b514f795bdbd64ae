//! What a component says of itself, without a server: what it asks for and what it handles.

mod diff;
mod schema_diff;

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::value::RawValue;

pub use diff::{Change, diff};

use crate::{
    admission::{RateLimits, scope_name},
    broadcast::Broadcast,
    config,
    grant::Grants,
    guest::{Access, Description, EventContract, RateLimit},
    metrics::Metrics,
    plugin::{Content, Engine, Health, Plugin, Source},
    registry::Served,
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
    /// The grants that it cannot be loaded without.
    pub requests: Vec<String>,
    /// Whether it wants to know of connections.
    pub connections: bool,
    /// The events it handles, by name.
    pub events: Vec<Event>,
    /// The events it says it emits, by name.
    pub emits: Vec<Emit>,
}

/// An event that the plugin emits.
#[derive(Debug, Serialize)]
pub struct Emit {
    /// The event's name.
    pub name: String,
    /// JSON Schema of the argument array.
    pub arguments: Option<Box<RawValue>>,
}

/// An event's contract.
#[derive(Debug, Serialize)]
pub struct Event {
    /// The event's name.
    pub name: String,
    /// `anyone`, `authenticated` or roles.
    pub access: String,
    /// JSON Schema of the argument array.
    pub arguments: Option<Box<RawValue>>,
    /// JSON Schema of the ack's argument array.
    pub reply: Option<Box<RawValue>>,
    /// E.g. `100/10s by socket`.
    pub limits: Vec<String>,
    /// In bytes.
    pub max_bytes: Option<u32>,
}

/// Loads a component as a server would that grants everything. `config` is the JSON text that it
/// is described with.
pub async fn inspect(path: &Path, config: &str) -> Result<Inspection, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = std::fs::read(path).map_err(|error| named(&error))?;
    let engine = Engine::start(&config::Runtime::default()).map_err(|error| named(&error))?;
    let source = Source {
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .as_ref()
            .into(),
        content: Content::new(bytes),
        grants: Arc::new(ArcSwap::from_pointee(Grants::all())),
        config: config.to_owned(),
        budget: config::Budget::default(),
        breaker: config::Breaker::default(),
        on_failure: config::OnFailure::default(),
    };
    let metrics: Arc<Metrics> = Arc::default();
    let calls = metrics.calls_of(&source.name);
    let broadcast = Broadcast::new(
        Arc::new(Namespaces::new(
            config::Recovery::default(),
            &config::Socket::default(),
        )),
        Arc::default(),
    );
    let health: Arc<Health> = Arc::default();
    let (plugin, description) = Plugin::load(Arc::new(engine), broadcast, source, 1, health, calls)
        .await
        .map_err(|error| named(&error))?;
    let inspection = Inspection::new(&description, plugin.requests(), plugin.wants_connections());
    let limits = Arc::new(RateLimits::new(metrics.clone()));
    let served = Served::new(plugin, description, limits, metrics).await;
    served.map_err(|error| named(&error))?;
    Ok(inspection)
}

impl Inspection {
    fn new(description: &Description, requests: &[&str], connections: bool) -> Self {
        let mut events: Vec<Event> = description.events.iter().map(Event::new).collect();
        events.sort_by(|a, b| a.name.cmp(&b.name));
        let emits = description.emits.iter().map(|emit| Emit {
            name: emit.name.clone(),
            arguments: schema(&emit.arguments),
        });
        let mut emits: Vec<Emit> = emits.collect();
        emits.sort_by(|a, b| a.name.cmp(&b.name));
        let mut namespaces = description.namespaces.clone();
        if namespaces.is_empty() {
            namespaces.push("/".to_owned());
        }
        let requests = requests.iter().copied().map(str::to_owned);
        let named = namespaces.iter().filter(|path| *path != "/");
        let requests = requests.chain(named.map(|path| format!("namespace:{path}")));
        let requests = requests.collect();
        Self {
            name: description.name.clone(),
            version: description.version.clone(),
            namespaces,
            requests,
            connections,
            events,
            emits,
        }
    }
}

impl Event {
    fn new(contract: &EventContract) -> Self {
        Self {
            name: contract.name.clone(),
            access: match &contract.access {
                Access::Anyone => "anyone".to_owned(),
                Access::Authenticated => "authenticated".to_owned(),
                Access::Roles(roles) => format!("roles {}", roles.join(", ")),
            },
            arguments: schema(&contract.arguments),
            reply: schema(&contract.reply),
            limits: contract.limits.iter().map(limit_text).collect(),
            max_bytes: contract.max_bytes,
        }
    }
}

/// Text that is no JSON is refused right after, when the contract is compiled.
fn schema(text: &Option<String>) -> Option<Box<RawValue>> {
    RawValue::from_string(text.clone()?).ok()
}

fn limit_text(limit: &RateLimit) -> String {
    let interval =
        humantime::format_duration(std::time::Duration::from_millis(limit.interval_ms.into()));
    let burst = limit
        .burst
        .map(|burst| format!(" burst {burst}"))
        .unwrap_or_default();
    let scope = scope_name(limit.scope);
    format!("{}/{interval}{burst} by {scope}", limit.count)
}
