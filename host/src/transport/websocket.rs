//! The websocket handshake, for sessions that begin with it and for those that move to it.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::{
    service::Service,
    upgrade::{OnUpgrade, Parts},
};
use hyper_util::rt::TokioIo;
use tungstenite::handshake::derive_accept_key;

use super::{
    front::{Front, Origin},
    handshake::Handshake,
    listener,
    refusal::Refusal,
    session::Session,
    stream::Stream,
    upgrade,
};

/// The version of the protocol (RFC 6455).
pub const VERSION: &str = "13";

/// A key is 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// The connection behind an accepted websocket, and what has been read from it already.
pub struct Accepted {
    /// The connection.
    pub io: listener::Stream,
    /// What the client sent right behind its request.
    pub read: Bytes,
}

/// Whether the client wants to leave HTTP for a websocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
        && has_token(headers, header::CONNECTION, "upgrade")
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Begins a session.
pub fn open(front: Arc<Front>, request: Request) -> Result<Response, Refusal> {
    let origin = Origin::of(&request);
    let handshake = Handshake::of(&request, &front.sessions)?;
    let (response, connection) = accept(request)?;
    // Ends with the handshake: socketioxide has tasks of its own for what follows.
    tokio::spawn(async move {
        let Some(Accepted { io, read }) = accepted(connection).await else {
            return;
        };
        let session = front.sessions.begin(handshake);
        let request = front.opening_request("websocket", origin, session.clone(), ());
        let (tcp, write_timeout, place) = io.into_parts();
        let (reader, writer) = tcp.into_split();
        session.leave_polling();
        session.open_websocket(writer, write_timeout, |_| Bytes::new());
        let stream = Stream::new(reader, session, front.max_payload as u64, &read);
        // socketioxide's future has room for several of it.
        let stream = Box::new(stream.in_place(place));
        if let Err(error) = front.service.call((stream, request)).await {
            tracing::debug!(%error, "a websocket could not begin a session");
        }
    });
    Ok(response)
}

/// Moves a session from polling to a websocket.
pub fn upgrade(
    front: Arc<Front>,
    session: Arc<Session>,
    id: String,
    request: Request,
) -> Result<Response, Refusal> {
    let (response, connection) = accept(request)?;
    // Ends with the upgrade, which has a deadline.
    tokio::spawn(async move {
        if let Some(accepted) = accepted(connection).await {
            upgrade::run(&front, session, &id, accepted).await;
        }
    });
    Ok(response)
}

/// The connection, once the answer to the handshake has been sent; none if it ended before. Taken
/// out of what hyper has wrapped it in, with its buffers, which would last as long.
async fn accepted(connection: OnUpgrade) -> Option<Accepted> {
    let parts = connection
        .await
        .ok()?
        .downcast::<TokioIo<listener::Stream>>();
    let Parts { io, read_buf, .. } = parts
        .inspect_err(|_| tracing::error!("not our listener"))
        .ok()?;
    Some(Accepted {
        io: io.into_inner(),
        read: read_buf,
    })
}

/// Checks the handshake; the connection is there once the response has been sent.
fn accept(mut request: Request) -> Result<(Response, OnUpgrade), Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Refusal::BadRequest);
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != VERSION)
    {
        return Err(Refusal::UnsupportedWebSocketVersion);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == KEY_LENGTH)
        .ok_or(Refusal::BadRequest)?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .expect("base64 is good for a header");
    let connection = hyper::upgrade::on(&mut request);
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    Ok((response, connection))
}
