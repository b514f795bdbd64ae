//! `/api/v1/plugins`: how plugins stand, and what operators have done with them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use tokio::{runtime::Handle, sync::mpsc};

use super::{Api, InPath, auth::Backend, body::Options};
use crate::{
    config::Budget,
    error::WireError,
    metrics::Counted,
    registry,
    reload::{Asked, Load, NotDone, PluginStatus, Request, Status, Step},
    store::{Bucket, Store},
    timers,
};

type CurrentStatus = State<Arc<ArcSwap<Status>>>;

/// All of them.
pub(super) async fn all(
    backend: Backend,
    State(status): CurrentStatus,
) -> Result<Response, WireError> {
    backend.may(backend.rights.inspect(), "inspect")?;
    Ok(Json(&*status.load_full()).into_response())
}

/// One of them, with all that is known of it.
pub(super) async fn one(
    backend: Backend,
    InPath(name): InPath<String>,
    State(status): CurrentStatus,
    State(api): State<Api>,
) -> Result<Response, WireError> {
    backend.may(backend.rights.inspect(), "inspect")?;
    let status = status.load_full();
    Ok(Json(Described::new(named(&status, &name)?, &api)).into_response())
}

/// The last lines of a plugin: what it logged, and its failures.
pub(super) async fn log(
    backend: Backend,
    InPath(name): InPath<String>,
    uri: Uri,
    State(status): CurrentStatus,
) -> Result<Response, WireError> {
    backend.may(backend.rights.inspect(), "inspect")?;
    let WantedLines { after, trace } = WantedLines::parse(uri.query().unwrap_or_default())?;
    let status = status.load();
    let health = named(&status, &name)?.health.as_deref();
    let journal = health.map(|health| health.journal());
    let lines = journal.map(|journal| journal.since(after, trace.as_deref()));
    let answer = json!({
        "journal": journal.map(|journal| journal.id()),
        "lines": lines.unwrap_or_default(),
    });
    Ok(Json(answer).into_response())
}

/// The timers of all plugins.
pub(super) async fn timers(
    backend: Backend,
    State(registry): State<registry::Current>,
    State(store): State<Arc<Store>>,
) -> Result<Response, WireError> {
    backend.may(backend.rights.inspect(), "inspect")?;
    let registry = registry.load_full();
    let listing = tokio::task::spawn_blocking(move || {
        let mut plugins: Vec<_> = registry.timed().keys().collect();
        plugins.sort_unstable();
        Handle::current().block_on(timers::list(&store, plugins))
    });
    match listing.await {
        Ok(Ok(timers)) => Ok(Json(json!({ "timers": timers })).into_response()),
        Ok(Err(error)) => Err(WireError::temporary("internal", error.to_string())),
        Err(_) => Err(WireError::new("internal", "the server failed")),
    }
}

/// Answers when every file has been looked at, with the state after that.
pub(super) async fn refresh(
    backend: Backend,
    State(api): State<Api>,
    State(status): CurrentStatus,
) -> Result<Response, WireError> {
    operate(&backend, &api.reload, Asked::Refresh).await?;
    Ok(Json(&*status.load_full()).into_response())
}

/// Answers when the plugin's file serves, with its state after that.
pub(super) async fn reload(
    backend: Backend,
    InPath(name): InPath<String>,
    State(api): State<Api>,
    State(status): CurrentStatus,
) -> Result<Response, WireError> {
    operate(&backend, &api.reload, Asked::Reload(name.clone())).await?;
    Ok(Json(named(&status.load_full(), &name)?).into_response())
}

/// Answers when the plugin's former version serves, with its state after that. Who says which versions are
/// meant is refused if others are there by now.
pub(super) async fn rollback(
    backend: Backend,
    InPath(name): InPath<String>,
    State(api): State<Api>,
    State(status): CurrentStatus,
    Options(step): Options<Step>,
) -> Result<Response, WireError> {
    let asked = Asked::RollBack(name.clone(), step);
    operate(&backend, &api.reload, asked).await?;
    Ok(Json(named(&status.load_full(), &name)?).into_response())
}

/// The one place where somebody with a key has the reload task do something: what comes of it is known here, too.
async fn operate(
    backend: &Backend,
    requests: &mpsc::Sender<Request>,
    asked: Asked,
) -> Result<(), WireError> {
    backend.may(backend.rights.operate(), "operate")?;
    let by = backend.name.clone();
    let (request, answered) = Request::new(asked.clone(), by.clone());
    let stopping = || WireError::temporary("internal", "the server is shutting down");
    requests.send(request).await.map_err(|_| stopping())?;
    let done = answered.await.map_err(|_| match requests.is_closed() {
        true => stopping(),
        false => WireError::temporary("internal", "the reload failed"),
    })?;
    done.map_err(refused)?;
    tracing::info!(by = &*by, "done for an operator: {asked}");
    Ok(())
}

fn refused(reason: NotDone) -> WireError {
    let message = reason.to_string();
    match reason {
        NotDone::Unknown => WireError::new("not_found", message),
        NotDone::Disabled
        | NotDone::NoFormer
        | NotDone::OtherVersions { .. }
        | NotDone::FileChanged => WireError::new("conflict", message),
        NotDone::Refused(_) => WireError::new("plugin_refused", message),
    }
}

fn named<'a>(status: &'a Status, name: &str) -> Result<&'a PluginStatus, WireError> {
    let mut plugins = status.plugins.iter();
    let unknown = || WireError::new("not_found", NotDone::Unknown.to_string());
    plugins
        .find(|plugin| plugin.name == name)
        .ok_or_else(unknown)
}

/// What the list says of a plugin, and more.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    status: &'a PluginStatus,
    /// What `mixlab.toml` grants it.
    grants: Vec<String>,
    /// The grants that it cannot be loaded without, and those that its calls may need besides.
    needs: &'a [String],
    may_need: &'a [String],
    guards: &'a [String],
    budget: Option<Allowed>,
    /// How large what serves is.
    code_bytes: Option<usize>,
    /// The last loads, the newest first.
    loads: &'a VecDeque<Load>,
    #[serde(flatten)]
    counted: Counted,
    stored: Option<Stored>,
}

/// What one call may use up, in milliseconds and bytes, and what the plugin may have.
#[derive(Serialize)]
struct Allowed {
    cpu_ms: f64,
    wall_ms: f64,
    memory_bytes: u64,
    boundary_bytes: u64,
    host_calls: usize,
    effects: usize,
    log_bytes: u64,
    data_bytes: u64,
    file_bytes: u64,
    compile_ms: f64,
    migration_ms: f64,
    instances: usize,
    asks: usize,
    requests: usize,
}

/// What a plugin has in the store, and may have there.
#[derive(Serialize)]
struct Stored {
    keys: u64,
    bytes: u64,
    max_keys: usize,
    max_bytes: u64,
}

impl<'a> Described<'a> {
    fn new(status: &'a PluginStatus, api: &Api) -> Self {
        static NO_LOADS: VecDeque<Load> = VecDeque::new();
        let detail = status.detail.as_deref();
        let about = detail.and_then(|detail| detail.about.as_deref());
        let grants = detail.into_iter().flat_map(|detail| detail.grants.iter());
        Self {
            status,
            grants: grants.map(ToString::to_string).collect(),
            needs: about.map_or(&[], |about| &about.requests),
            may_need: about.map_or(&[], |about| &about.may_request),
            guards: detail.map_or(&[], |detail| &detail.guards),
            budget: detail.map(|detail| Allowed::of(&detail.budget)),
            code_bytes: detail.and_then(|detail| detail.code_bytes),
            loads: detail.map_or(&NO_LOADS, |detail| &detail.loads),
            counted: api.metrics.counted_of(&status.name),
            stored: Stored::of(&status.name, &api.store),
        }
    }
}

impl Allowed {
    fn of(budget: &Budget) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Self {
            cpu_ms: ms(budget.cpu),
            wall_ms: ms(budget.wall),
            memory_bytes: budget.memory.bytes(),
            boundary_bytes: budget.boundary.bytes(),
            host_calls: budget.host_calls,
            effects: budget.effects,
            log_bytes: budget.log.bytes(),
            data_bytes: budget.data.bytes(),
            file_bytes: budget.file.bytes(),
            compile_ms: ms(budget.compile),
            migration_ms: ms(budget.migration),
            instances: budget.instances,
            asks: budget.asks(),
            requests: budget.requests(),
        }
    }
}

impl Stored {
    /// None: no plugin has needed the store yet, or what it holds is only known in Redis.
    fn of(plugin: &str, store: &Store) -> Option<Self> {
        let store = store.opened()?;
        let (keys, bytes) = store.holds(&Bucket::of_plugin(plugin))?;
        let config = store.config();
        Some(Self {
            keys,
            bytes,
            max_keys: config.bucket_keys,
            max_bytes: config.bucket_bytes.bytes(),
        })
    }
}

/// Which lines of a plugin are wanted.
#[derive(Default)]
struct WantedLines {
    /// Those behind the one of this number.
    after: u64,
    /// Those of the failure with this id.
    trace: Option<String>,
}

impl WantedLines {
    fn parse(query: &str) -> Result<Self, WireError> {
        let mut wanted = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "after" => {
                    let invalid = |_| WireError::new("invalid_payload", "after: it is no number");
                    wanted.after = value.parse().map_err(invalid)?;
                }
                "trace" => wanted.trace = Some(value.into_owned()),
                _ => {
                    let message = "the query has a parameter that is not known here";
                    return Err(WireError::new("invalid_payload", message));
                }
            }
        }
        Ok(wanted)
    }
}
