//! The HTTP API of backends.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use socketioxide::SocketIo;

#[derive(Serialize)]
struct PaymentUpdate {
    r#type: &'static str,
    data: Box<RawValue>,
    timestamp: String,
}

/// The routes, for whoever has the key.
pub fn router(io: SocketIo, api_key: &str) -> Router {
    let bearer: Arc<str> = format!("Bearer {api_key}").into();
    Router::new()
        .route("/api/v1/payments/updates", post(payment_update))
        .route("/api/v1/users/{id}/notifications", post(notification))
        .route("/api/v1/roles/{role}/events/{event}", post(role_event))
        .route("/api/v1/clients/count", get(clients))
        .layer(middleware::from_fn_with_state(bearer, check_key))
        .with_state(io)
}

async fn check_key(
    State(bearer): State<Arc<str>>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let given = request.headers().get(header::AUTHORIZATION);
    match given.is_some_and(|given| given.as_bytes() == bearer.as_bytes()) {
        true => Ok(next.run(request).await),
        false => Err(StatusCode::UNAUTHORIZED),
    }
}

async fn payment_update(
    State(io): State<SocketIo>,
    Json(data): Json<Box<RawValue>>,
) -> Json<Value> {
    let update = PaymentUpdate {
        r#type: "payment_update",
        data,
        timestamp: timestamp(),
    };
    push(&io, "payments".to_owned(), "payment_update", &update).await
}

async fn notification(
    State(io): State<SocketIo>,
    Path(id): Path<String>,
    Json(mut fields): Json<Map<String, Value>>,
) -> Json<Value> {
    fields.insert("timestamp".to_owned(), timestamp().into());
    push(&io, format!("user:{id}"), "notification", &fields).await
}

async fn role_event(
    State(io): State<SocketIo>,
    Path((role, event)): Path<(String, String)>,
    Json(data): Json<Box<RawValue>>,
) -> Json<Value> {
    push(&io, format!("role:{role}"), &event, &data).await
}

async fn clients(State(io): State<SocketIo>) -> Json<Value> {
    Json(json!({ "count": io.sockets().len() }))
}

/// Emits to a room; how many sockets are in it.
async fn push(io: &SocketIo, room: String, event: &str, data: &impl Serialize) -> Json<Value> {
    let sockets = io.to(room.clone()).sockets().len();
    // Sockets that are going away miss it.
    let _ = io.to(room).emit(event, data).await;
    Json(json!({ "delivered": sockets }))
}

/// Now, as JavaScript's `toISOString` writes it.
fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
