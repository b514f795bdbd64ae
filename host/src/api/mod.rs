//! The HTTP door for backends: events to clients, and the state of the plugins.

mod audited;
mod auth;
mod body;
mod cursor;
mod emit;
mod idempotency;
mod in_flight;
mod lists;
mod moves;
mod query;
mod revocations;
mod whom;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{FromRef, FromRequestParts, Path, State, rejection::PathRejection},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use self::{
    audited::audited,
    auth::Backend,
    body::{JsonBody, Options},
};
use crate::{
    audit::Audit,
    auth::Providers,
    broadcast::{Broadcast, Notification},
    capability::is_reserved_event,
    error::WireError,
    metrics::Metrics,
    registry,
    reload::{PluginStatus, Request, Status},
    server::{Drain, Phase, Upgrade},
    settings,
    store::Store,
    tasks::Down,
    timers,
    transport::{Delivery, Namespaces},
    user::{UserId, is_role},
};
pub(crate) use auth::LocalKey;
pub(crate) use body::whole as whole_body;
pub(crate) use idempotency::{Idempotency, SavedAnswer};
pub(crate) use in_flight::InFlight;

/// What the handlers need.
#[derive(Clone, FromRef)]
pub struct Api {
    /// Performs the pushes.
    pub broadcast: Broadcast,
    /// The API keys.
    pub settings: settings::Current,
    /// The key of this machine's own command line.
    pub local_key: LocalKey,
    /// What came of requests that may come again.
    pub idempotency: Idempotency,
    /// How many requests of each backend are under way.
    pub(crate) in_flight: InFlight,
    /// The state of the plugins.
    pub status: Arc<ArcSwap<Status>>,
    /// Asks for a reload.
    pub reload: mpsc::Sender<Request>,
    /// Counts what happens.
    pub metrics: Arc<Metrics>,
    /// Who changed what, and who was refused.
    pub(crate) audit: Audit,
    /// The tasks of the server that are not running.
    pub(crate) down: Down,
    /// Has the server leave.
    pub(crate) drain: Drain,
    /// Has another process follow.
    pub(crate) upgrade: Upgrade,
    /// What plugins remember.
    pub(crate) store: Arc<Store>,
    /// Who handles what.
    pub(crate) registry: registry::Current,
    /// Whose keys are fetched.
    pub(crate) providers: Arc<Providers>,
    /// The sockets' doors, which count what they drop.
    pub namespaces: Arc<Namespaces>,
}

/// The answer to a push.
#[derive(Serialize)]
struct Pushed {
    /// Sockets that it was delivered to; not known in a cluster, where others deliver it, too.
    delivered: Option<usize>,
}

/// How connections of a user end.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DisconnectOptions {
    /// The transports of its clients end, too.
    close: bool,
}

/// The answer to a disconnect.
#[derive(Serialize)]
struct Disconnected {
    /// Connections that it ended.
    disconnected: usize,
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

/// All routes of the API, health among them.
pub(crate) fn router(api: Api) -> Router {
    let router = Router::new()
        .route("/api/v1/emit", post(emit::emit))
        .route("/api/v1/sockets", get(lists::sockets))
        .route("/api/v1/sockets/{id}", get(lists::socket))
        .route("/api/v1/sockets/join", post(moves::join))
        .route("/api/v1/sockets/leave", post(moves::leave))
        .route("/api/v1/sockets/disconnect", post(moves::disconnect))
        .route("/api/v1/rooms", get(lists::rooms))
        .route("/api/v1/users", get(lists::users))
        .route("/api/v1/users/{id}", get(lists::user))
        .route("/api/v1/payments/updates", post(payment_update))
        .route("/api/v1/users/{id}/notifications", post(notification))
        .route("/api/v1/users/{id}/disconnect", post(disconnect))
        .route("/api/v1/roles/{role}/events/{event}", post(role_event))
        .route("/api/v1/clients/count", get(clients_count))
        .route("/api/v1/plugins", get(plugins))
        .route("/api/v1/plugins/reload", post(reload))
        .route("/api/v1/plugins/{plugin}/log", get(plugin_log))
        .route("/api/v1/timers", get(timers))
        .route("/api/v1/revocations", post(revocations::revoke))
        .route("/api/v1/drain", post(drain))
        .route("/api/v1/upgrade", post(upgrade))
        .route("/api/{*unknown}", axum::routing::any(not_found));
    audited(router, &api)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(api)
}

async fn payment_update(
    backend: Backend,
    State(broadcast): State<Broadcast>,
    JsonBody(data): JsonBody,
) -> Result<Json<Pushed>, WireError> {
    backend.may(backend.rights.payments(), "payments")?;
    check_room(&broadcast)?;
    Ok(Json(Pushed::new(
        &broadcast,
        broadcast.broadcast_payment_update(&data),
    )))
}

async fn notification(
    backend: Backend,
    InPath(user): InPath<String>,
    State(broadcast): State<Broadcast>,
    JsonBody(body): JsonBody,
) -> Result<Json<Pushed>, WireError> {
    backend.may(backend.rights.notify(&user), format_args!("notify:{user}"))?;
    let user = user_in_path(&user)?;
    let notification = Notification::parse(body.get()).map_err(|error| {
        WireError::new(
            "invalid_payload",
            format!("the body is not a JSON object: {error}"),
        )
    })?;
    check_room(&broadcast)?;
    let delivery = broadcast.send_user_notification(&user, notification);
    Ok(Json(Pushed::new(&broadcast, delivery)))
}

async fn disconnect(
    backend: Backend,
    InPath(user): InPath<String>,
    State(broadcast): State<Broadcast>,
    Options(options): Options<DisconnectOptions>,
) -> Result<Json<Disconnected>, WireError> {
    backend.may(backend.rights.disconnect(), "disconnect")?;
    let user = user_in_path(&user)?;
    let disconnected = broadcast.disconnect_user(&user, options.close);
    Ok(Json(Disconnected { disconnected }))
}

async fn role_event(
    backend: Backend,
    InPath((role, event)): InPath<(String, String)>,
    State(broadcast): State<Broadcast>,
    JsonBody(data): JsonBody,
) -> Result<Json<Pushed>, WireError> {
    backend.may(
        backend.rights.role(&role, Some(&event)),
        format_args!("role:{role}:{event}"),
    )?;
    if !is_role(&role) {
        let message = "the role in the path is not valid";
        return Err(WireError::new("invalid_payload", message));
    }
    if is_reserved_event(&event) {
        let message = format!("the event name {event:?} is reserved");
        return Err(WireError::new("invalid_payload", message));
    }
    check_room(&broadcast)?;
    Ok(Json(Pushed::new(
        &broadcast,
        broadcast.broadcast_to_role(&role, &event, &data),
    )))
}

async fn clients_count(
    backend: Backend,
    State(broadcast): State<Broadcast>,
) -> Result<impl IntoResponse, WireError> {
    backend.may(backend.rights.clients(), "clients")?;
    Ok(Json(serde_json::json!({
        "count": broadcast.connected_clients_count(),
        "here": broadcast.clients_here(),
    })))
}

async fn plugins(
    backend: Backend,
    State(status): State<Arc<ArcSwap<Status>>>,
) -> Result<Response, WireError> {
    backend.may(backend.rights.admin(), "admin")?;
    Ok(Json(&*status.load_full()).into_response())
}

/// The last lines of a plugin: what it logged, and its failures.
async fn plugin_log(
    backend: Backend,
    InPath(name): InPath<String>,
    uri: Uri,
    State(status): State<Arc<ArcSwap<Status>>>,
) -> Result<Response, WireError> {
    backend.may(backend.rights.admin(), "admin")?;
    let WantedLines { after, trace } = WantedLines::parse(uri.query().unwrap_or_default())?;
    let status = status.load();
    let plugin = status.plugins.iter().find(|plugin| plugin.name == name);
    let unknown = || WireError::new("not_found", "no plugin in mixlab.toml has this name");
    let plugin = plugin.ok_or_else(unknown)?;
    let health = plugin.health.as_deref();
    let lines = health.map(|health| health.journal().since(after, trace.as_deref()));
    Ok(Json(serde_json::json!({ "lines": lines.unwrap_or_default() })).into_response())
}

/// The timers of all plugins.
async fn timers(
    backend: Backend,
    State(registry): State<registry::Current>,
    State(store): State<Arc<Store>>,
) -> Result<Response, WireError> {
    backend.may(backend.rights.admin(), "admin")?;
    let registry = registry.load_full();
    let listing = tokio::task::spawn_blocking(move || {
        let mut plugins: Vec<_> = registry.timed().keys().collect();
        plugins.sort_unstable();
        Handle::current().block_on(timers::list(&store, plugins))
    });
    match listing.await {
        Ok(Ok(timers)) => Ok(Json(serde_json::json!({ "timers": timers })).into_response()),
        Ok(Err(error)) => Err(WireError::temporary("internal", error.to_string())),
        Err(_) => Err(WireError::new("internal", "the server failed")),
    }
}

/// Answers when every file has been looked at, with the state after that.
async fn reload(
    backend: Backend,
    State(requests): State<mpsc::Sender<Request>>,
    State(status): State<Arc<ArcSwap<Status>>>,
) -> Result<Response, WireError> {
    backend.may(backend.rights.admin(), "admin")?;
    let (request, done) = oneshot::channel();
    let stopping = || WireError::temporary("internal", "the server is shutting down");
    requests.send(request).await.map_err(|_| stopping())?;
    done.await.map_err(|_| match requests.is_closed() {
        true => stopping(),
        false => WireError::temporary("internal", "the reload failed"),
    })?;
    Ok(Json(&*status.load_full()).into_response())
}

/// Has the server leave, and answers at once how far it is.
async fn drain(backend: Backend, State(drain): State<Drain>) -> Result<Response, WireError> {
    backend.may(backend.rights.admin(), "admin")?;
    drain.begin();
    let answer = serde_json::json!({ "state": drain.phase(), "clients": drain.clients() });
    Ok(Json(answer).into_response())
}

/// Has another process follow, and answers when that is ready, with its id, or why it will never be.
async fn upgrade(backend: Backend, State(upgrade): State<Upgrade>) -> Result<Response, WireError> {
    backend.may(backend.rights.admin(), "admin")?;
    let answer = match upgrade.ask().await {
        Ok(process) => serde_json::json!({ "process": process }),
        Err(reason) => serde_json::json!({ "refused": reason }),
    };
    Ok(Json(answer).into_response())
}

/// Ready means that every plugin that is switched on serves what its file holds, that `mixlab.toml`
/// is in force, that the store takes what is written, that it is known who is present by other servers, that the
/// server is not to leave, and that its own tasks run. Paused plugins are named besides: who is not ready gets no clients, and
/// no client is to bring that about.
async fn ready(
    State(status): State<Arc<ArcSwap<Status>>>,
    State(down): State<Down>,
    State(store): State<Arc<Store>>,
    State(broadcast): State<Broadcast>,
    State(drain): State<Drain>,
    State(providers): State<Arc<Providers>>,
    State(settings): State<settings::Current>,
) -> Response {
    let status = status.load();
    let mut problems: Vec<String> = status.problems().into_iter().map(Into::into).collect();
    let down = down.names().into_iter();
    problems.extend(down.map(|task| format!("the server's task {task}")));
    if store.failure().is_some() {
        problems.push("the store cannot be written".to_owned());
    }
    if broadcast
        .cluster()
        .is_some_and(|cluster| !cluster.is_connected)
    {
        problems.push("the cluster's Redis is not connected".to_owned());
    }
    if !broadcast.presence().is_known() {
        problems.push("who is present by other servers".to_owned());
    }
    let settings = settings.load();
    let verifier = settings.verifier.as_ref();
    if verifier.is_some_and(|verifier| verifier.revocations().are_unknown()) {
        problems.push("what is revoked cannot be read".to_owned());
    }
    let missing = providers.missing().into_iter();
    problems.extend(missing.map(|issuer| format!("the keys of {issuer}")));
    if drain.phase() != Phase::Serving {
        problems.push("the server leaves".to_owned());
    }
    // Names only: the reasons may show paths, and this door needs no key.
    let (code, mut text) = if problems.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        let text = format!("not ready: {}\n", problems.join(", "));
        (StatusCode::SERVICE_UNAVAILABLE, text)
    };
    for (what, names) in [
        ("nobody enters without", status.missing_guards()),
        ("paused", status.paused(|pauses| pauses.everybody)),
        (
            "paused for some addresses",
            status.paused(|pauses| !pauses.everybody && pauses.addresses > 0),
        ),
    ] {
        if !names.is_empty() {
            text += &format!("{what}: {}\n", names.join(", "));
        }
    }
    (code, text).into_response()
}

/// In Prometheus' text format. Like health, it needs no key: keep it from the public in the proxy.
async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let status = api.status.load_full();
    let clients = api.broadcast.clients_here();
    let text = api.metrics.render(
        clients,
        api.namespaces.count(),
        api.namespaces.dropped_emits(),
        api.broadcast.cluster(),
        status.plugins.iter().map(PluginStatus::sample),
    );
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
}

fn user_in_path(id: &str) -> Result<UserId, WireError> {
    let invalid = || WireError::new("invalid_payload", "the user id in the path is not valid");
    UserId::from_text(id).ok_or_else(invalid)
}

/// Refuses what could not be sent to other servers.
fn check_room(broadcast: &Broadcast) -> Result<(), WireError> {
    let room = broadcast.check_room();
    room.map_err(|full| WireError::temporary("cluster_unavailable", full.to_string()))
}

impl Pushed {
    fn new(broadcast: &Broadcast, delivery: Delivery) -> Self {
        Self {
            delivered: (!broadcast.is_clustered()).then_some(delivery.delivered),
        }
    }
}

/// The answer where nothing is.
pub(crate) async fn not_found() -> WireError {
    WireError::new("not_found", "there is nothing at this path")
}

/// The answer to a method that a path does not take.
pub(crate) async fn method_not_allowed() -> WireError {
    WireError::new("method_not_allowed", "this path does not take this method")
}

impl IntoResponse for WireError {
    fn into_response(self) -> Response {
        let status = match &*self.code {
            "invalid_payload" => StatusCode::BAD_REQUEST,
            "unauthorized" | "key_expired" => StatusCode::UNAUTHORIZED,
            "permission_denied" => StatusCode::FORBIDDEN,
            "not_found" => StatusCode::NOT_FOUND,
            "method_not_allowed" => StatusCode::METHOD_NOT_ALLOWED,
            "conflict" => StatusCode::CONFLICT,
            "idempotency_key_reused" => StatusCode::UNPROCESSABLE_ENTITY,
            "payload_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
            "cluster_unavailable" | "store_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            self.to_json(),
        )
            .into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(milliseconds) = self.retry_after_ms {
            // In whole seconds, and not too early.
            let seconds = header::HeaderValue::from(milliseconds.div_ceil(1000));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// Parameters in the path; what is wrong with them is said in the one error shape.
#[derive(FromRequestParts)]
#[from_request(via(Path), rejection(WireError))]
struct InPath<T>(T);

impl From<PathRejection> for WireError {
    fn from(rejection: PathRejection) -> Self {
        Self::new("invalid_payload", rejection.body_text())
    }
}

/// A body that is any one JSON value.
type Body = Box<RawValue>;
