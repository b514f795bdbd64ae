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
mod plugins;
mod push;
mod query;
mod revocations;
mod standing;
mod whom;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{FromRef, FromRequestParts, Path, State, rejection::PathRejection},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use prometheus::proto::MetricFamily;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use self::{
    audited::audited,
    auth::Backend,
    body::{JsonBody, Options},
    push::{Push, Pushed},
};
use crate::{
    audit::Audit,
    auth::Providers,
    broadcast::{Broadcast, Notification},
    capability::is_reserved_event,
    error::WireError,
    metrics::{self, Metrics},
    registry,
    reload::{PluginStatus, Request, Status},
    server::{Drain, Upgrade},
    settings,
    store::Store,
    tasks::Down,
    telemetry::trace_request,
    transport::Namespaces,
    user::{UserId, is_role},
};
pub(crate) use auth::LocalKey;
pub(crate) use body::whole as whole_body;
pub(crate) use idempotency::{Idempotency, SavedAnswer};
pub(crate) use in_flight::InFlight;
pub(crate) use standing::Started;

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
    pub(crate) reload: mpsc::Sender<Request>,
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
    /// When the server started.
    pub(crate) started: Started,
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

impl Api {
    /// All metrics as they are now.
    pub(crate) fn gather_metrics(&self) -> Vec<MetricFamily> {
        let status = self.status.load_full();
        self.metrics.gather(
            self.broadcast.clients_here(),
            self.namespaces.count(),
            self.namespaces.dropped_emits(),
            self.broadcast.cluster(),
            status.plugins.iter().map(PluginStatus::sample),
        )
    }
}

/// All routes of the API, health among them.
pub(crate) fn router(api: Api) -> Router {
    let traced = |(path, handlers): (&'static str, MethodRouter<Api>)| {
        let handlers = match api.broadcast.tracer() {
            Some(tracer) => {
                let route = (tracer.clone(), path);
                handlers.layer(middleware::from_fn_with_state(route, trace_request))
            }
            None => handlers,
        };
        Router::new().route(path, handlers)
    };
    let routes = [
        ("/api/v1/emit", post(emit::emit)),
        ("/api/v1/sockets", get(lists::sockets)),
        ("/api/v1/sockets/{id}", get(lists::socket)),
        ("/api/v1/sockets/join", post(moves::join)),
        ("/api/v1/sockets/leave", post(moves::leave)),
        ("/api/v1/sockets/disconnect", post(moves::disconnect)),
        ("/api/v1/rooms", get(lists::rooms)),
        ("/api/v1/users", get(lists::users)),
        ("/api/v1/users/{id}", get(lists::user)),
        ("/api/v1/payments/updates", post(payment_update)),
        ("/api/v1/users/{id}/notifications", post(notification)),
        ("/api/v1/users/{id}/disconnect", post(disconnect)),
        ("/api/v1/roles/{role}/events/{event}", post(role_event)),
        ("/api/v1/clients/count", get(clients_count)),
        ("/api/v1/plugins", get(plugins::all)),
        ("/api/v1/plugins/reload", post(plugins::refresh)),
        ("/api/v1/plugins/{plugin}", get(plugins::one)),
        ("/api/v1/plugins/{plugin}/log", get(plugins::log)),
        ("/api/v1/plugins/{plugin}/reload", post(plugins::reload)),
        ("/api/v1/plugins/{plugin}/rollback", post(plugins::rollback)),
        ("/api/v1/timers", get(plugins::timers)),
        ("/api/v1/server", get(standing::server)),
        ("/api/v1/revocations", post(revocations::revoke)),
        ("/api/v1/drain", post(drain)),
        ("/api/v1/upgrade", post(upgrade)),
    ];
    let routes = routes.map(traced).into_iter();
    let router = routes
        .fold(Router::new(), Router::merge)
        .route("/api/{*unknown}", axum::routing::any(not_found));
    audited(router, &api)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(standing::ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(api)
}

async fn payment_update(push: Push, JsonBody(data): JsonBody) -> Result<Response, WireError> {
    let send = |backend: &Backend, broadcast: &Broadcast, data: &RawValue| {
        backend.may(backend.rights.payments(), "payments")?;
        check_room(broadcast)?;
        let delivery = broadcast.broadcast_payment_update(data);
        Ok(Pushed::new(broadcast, delivery))
    };
    push.perform(data, send).await
}

async fn notification(
    push: Push,
    InPath(user): InPath<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, WireError> {
    let send = move |backend: &Backend, broadcast: &Broadcast, body: &RawValue| {
        backend.may(backend.rights.notify(&user), format_args!("notify:{user}"))?;
        let user = user_in_path(&user)?;
        let notification = Notification::parse(body.get()).map_err(|error| {
            let message = format!("the body is not a JSON object: {error}");
            WireError::new("invalid_payload", message)
        })?;
        check_room(broadcast)?;
        let delivery = broadcast.send_user_notification(&user, notification);
        Ok(Pushed::new(broadcast, delivery))
    };
    push.perform(body, send).await
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
    push: Push,
    InPath((role, event)): InPath<(String, String)>,
    JsonBody(data): JsonBody,
) -> Result<Response, WireError> {
    let send = move |backend: &Backend, broadcast: &Broadcast, data: &RawValue| {
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
        check_room(broadcast)?;
        let delivery = broadcast.broadcast_to_role(&role, &event, data);
        Ok(Pushed::new(broadcast, delivery))
    };
    push.perform(data, send).await
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

/// In Prometheus' text format. Like health, it needs no key: keep it from the public in the proxy.
async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let text = metrics::text(&api.gather_metrics());
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
            "conflict" | "plugin_refused" => StatusCode::CONFLICT,
            "idempotency_key_reused" => StatusCode::UNPROCESSABLE_ENTITY,
            "payload_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
            "unsupported_encoding" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
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
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            let none = header::HeaderValue::from_static("identity");
            response.headers_mut().insert(header::ACCEPT_ENCODING, none);
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
