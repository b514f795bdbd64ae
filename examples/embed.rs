//! A program that embeds MixLab: what `mixlab.toml` says, and beside it an endpoint whose events are
//! native handlers and a route of its own.
//!
//! ```sh
//! cargo run --example embed mixlab.toml
//! ```

use std::{convert::Infallible, env, error::Error, io, path::PathBuf};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use mixlab::{
    broadcast::{Broadcast, Notification},
    config::{Config, Overrides},
    native::Endpoint,
    server::Server,
    user::{User, UserId},
};
use serde_json::{Value, json, value::RawValue};
use socketioxide::{
    extract::{AckSender, Data, MaybeExtension, SocketRef},
    handler::ConnectHandler,
    socket::DisconnectReason,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let path = env::args_os().nth(1).map(PathBuf::from);
    let path = path.unwrap_or_else(|| "mixlab.toml".into());
    let config = Config::load(&path, Overrides::default())?;
    let orders = |broadcast| {
        let orders = Router::new().route("/orders/{user}/paid", post(paid));
        orders.with_state(broadcast)
    };
    let server = Server::builder(config)
        .native("/native.io", add_handlers)
        .routes(orders)
        .start()
        .await?;
    println!("MixLab is listening on http://{}", server.address());
    let interrupted = async { _ = tokio::signal::ctrl_c().await };
    Ok(server.run(interrupted).await?)
}

/// A client of this endpoint has passed the same checks as one of the plugins' endpoint.
fn add_handlers(endpoint: &Endpoint) {
    endpoint.ns("/", (async || {}).with(add_events));
}

/// A middleware: its handlers are there before the client's first event.
async fn add_events(socket: SocketRef) -> Result<(), Infallible> {
    socket.on("echo", async |Data(value): Data<Value>, ack: AckSender| {
        // A client that is gone needs no answer.
        ack.send(&value).ok();
    });
    socket.on(
        "who",
        async |MaybeExtension(user): MaybeExtension<User>, ack: AckSender| {
            ack.send(&json!({ "user": user })).ok();
        },
    );
    socket.on_disconnect(async |reason: DisconnectReason| println!("a client left: {reason}"));
    Ok(())
}

/// An order is paid. Its user, the admins and who subscribed to payments hear of it, whatever endpoint
/// they are connected to.
async fn paid(
    State(broadcast): State<Broadcast>,
    Path(user): Path<String>,
    Json(order): Json<Box<RawValue>>,
) -> Result<Json<Value>, StatusCode> {
    let user = UserId::from_text(&user).ok_or(StatusCode::NOT_FOUND)?;
    let notification = Notification::parse(order.get()).map_err(|_| StatusCode::BAD_REQUEST)?;
    let deliveries = [
        broadcast.broadcast_payment_update(&order),
        broadcast.send_user_notification(&user, notification),
        broadcast.broadcast_to_role("admin", "order:paid", &order),
    ];
    Ok(Json(json!({
        "delivered": deliveries.map(|delivery| delivery.delivered),
        "clients": broadcast.connected_clients_count(),
    })))
}
