//! What a plugin is loaded from, and what it has in common with the others.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{code::Code, witness::Witness};
use crate::{
    broadcast::Broadcast,
    config::{self, Budget, HttpRule},
    grant::Grants,
    http_client::HttpClient,
    record::Recorder,
    store::Store,
};

/// What to load, and what it may do.
#[derive(Clone)]
pub(crate) struct Source {
    /// The name in `mixlab.toml`.
    pub name: Arc<str>,
    /// What its file holds.
    pub code: Code,
    /// What it may ask of the host. What is taken away while it runs is refused at the next call.
    pub grants: Arc<ArcSwap<Grants>>,
    /// What is said of the requests that it sends.
    pub http: Vec<HttpRule>,
    /// JSON text of its `config` table.
    pub config: String,
    /// What a call may use.
    pub budget: Budget,
    /// When it is paused.
    pub breaker: config::Breaker,
    /// What becomes of it when it keeps failing.
    pub on_failure: config::OnFailure,
    /// The namespaces that nobody enters whom it was not asked about.
    pub guards: Vec<String>,
    /// What becomes of events that it cannot filter.
    pub filter: config::Filter,
    /// Whose webhooks it takes.
    pub webhook: config::Webhook,
    /// Whether all servers of a cluster count its events together.
    pub shared_limits: bool,
}

/// What all plugins share.
#[derive(Clone)]
pub(crate) struct Services {
    /// What they push with.
    pub broadcast: Broadcast,
    /// What they remember.
    pub store: Arc<Store>,
    /// What they send requests with.
    pub http: HttpClient,
    /// Who looks at each of their calls, if somebody does.
    pub witness: Option<Arc<Witness>>,
    /// Writes down their calls, if somebody does.
    pub recorder: Option<Arc<Recorder>>,
}
