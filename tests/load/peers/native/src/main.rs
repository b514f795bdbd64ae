//! The events and the HTTP API that MixLab serves, compiled into a socketioxide server: what is
//! left of MixLab when its plugins, grants, budgets and limits are taken away. Listens on a free
//! port of 127.0.0.1 and says which.

mod api;
mod events;
mod user;

use std::{env, error::Error};

use axum::serve::ListenerExt;
use socketioxide::SocketIo;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// As many packets may wait for a slow client as MixLab allows in these tests; the default of 128
/// would lose some.
const SEND_BUFFER: usize = 65_536;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
    let tokens = user::Tokens::new(&variable("JWT_SECRET")?);
    let api_key = variable("MIXLAB_API_KEY")?;
    let (sockets, io) = SocketIo::builder().max_buffer_size(SEND_BUFFER).build_svc();
    io.ns("/", events::Welcome::new(tokens));
    let router = api::router(io.clone(), &api_key)
        .route_service("/socket.io", sockets.clone())
        .route_service("/socket.io/", sockets);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("Native is listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // A slower connection is still a connection.
        let _ = stream.set_nodelay(true);
    });
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        _ = terminate.recv() => io.close().await,
    }
    Ok(())
}
