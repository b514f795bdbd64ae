//! The websocket handshake, for sessions that begin with it and for those that move to it.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tungstenite::handshake::derive_accept_key;

use super::{WebSocket, extensions, upgrade};
use crate::transport::{
    engine::{
        origin::Origin,
        refusal::{Refusal, WEBSOCKET_VERSION},
        session::{EndReason, Session},
        sessions::{Policy, Sessions},
    },
    net,
};

/// The digits of a key, without what fills it up.
const KEY_DIGITS: usize = 22;

/// The connection behind an accepted websocket, and what has been read from it already.
pub(crate) struct Accepted {
    /// The connection.
    pub io: net::Stream,
    /// What the client sent right behind its request.
    pub read: Bytes,
    /// Whether messages may be deflated, in both directions.
    pub deflates: bool,
}

/// Begins a session.
pub(crate) fn open(
    sessions: Arc<Sessions>,
    origin: Origin,
    request: Request,
) -> Result<Response, Refusal> {
    let deflate = extension(&request, &sessions.policy)?;
    let (mut response, connection) = answer(request)?;
    let deflates = agree(&mut response, deflate);
    let session = sessions.begin(origin.address, origin.handshake)?;
    // Ends with the handshake: the websocket has a task of its own, which is smaller.
    tokio::spawn(async move {
        let Some(Accepted { io, read, .. }) = accepted(connection, deflates).await else {
            session.end_here(EndReason::TransportClose);
            return;
        };
        let (wire, place) = io.into_parts();
        session.open_websocket(wire, deflates);
        session.send(&session.greeting());
        tokio::spawn(WebSocket::new(session, &read, place));
    });
    Ok(response)
}

/// Moves a session from polling to a websocket.
pub(crate) fn upgrade(session: Arc<Session>, request: Request) -> Result<Response, Refusal> {
    let deflate = extension(&request, session.policy())?;
    let (mut response, connection) = answer(request)?;
    let deflates = agree(&mut response, deflate);
    // Ends with the upgrade, which has a deadline.
    tokio::spawn(async move {
        if let Some(accepted) = accepted(connection, deflates).await
            && let Some(websocket) = upgrade::run(session, accepted).await
        {
            tokio::spawn(websocket);
        }
    });
    Ok(response)
}

/// The connection, once the answer to the handshake has been sent; none if it ended before. Taken
/// out of what hyper has wrapped it in, with its buffers, which would last as long.
async fn accepted(connection: OnUpgrade, deflates: bool) -> Option<Accepted> {
    let parts = connection.await.ok()?.downcast::<TokioIo<net::Stream>>();
    let Parts { io, read_buf, .. } = parts
        .inspect_err(|_| tracing::error!("not our listener"))
        .ok()?;
    let mut io = io.into_inner();
    let read = match io.take_unread() {
        unread if unread.is_empty() => read_buf,
        unread => [read_buf, unread].concat().into(),
    };
    Some(Accepted { io, read, deflates })
}

/// What the client is answered that offers to deflate messages, where that is switched on.
fn extension(request: &Request, policy: &Policy) -> Result<Option<HeaderValue>, Refusal> {
    match policy.per_message_deflate {
        Some(_) => extensions::deflate(request.headers()),
        None => Ok(None),
    }
}

/// Adds it to the answer; returns whether messages may be deflated.
fn agree(response: &mut Response, extension: Option<HeaderValue>) -> bool {
    let extension = extension.map(|agreed| (header::SEC_WEBSOCKET_EXTENSIONS, agreed));
    let deflates = extension.is_some();
    response.headers_mut().extend(extension);
    deflates
}

/// Checks the handshake and answers it; the connection is there once the response has been sent.
pub(crate) fn answer(mut request: Request) -> Result<(Response, OnUpgrade), Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Refusal::BadRequest);
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != WEBSOCKET_VERSION)
    {
        return Err(Refusal::UnsupportedWebSocketVersion);
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).into_iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(Refusal::BadRequest);
    };
    if !is_key(key.as_bytes()) || request.version() < Version::HTTP_11 {
        return Err(Refusal::BadRequest);
    }
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .expect("base64 is good for a header");
    let protocol = offered_protocol(headers)?;
    let connection = hyper::upgrade::on(&mut request);
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    if let Some(protocol) = protocol {
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok((response, connection))
}

/// Whether it is what 16 bytes are in base64.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.strip_suffix(b"==") {
        Some(digits) => digits.len() == KEY_DIGITS && digits.iter().all(is_digit),
        None => false,
    }
}

/// The first of the protocols that a client offers, as Node answers: a client that has offered some and
/// gets no answer closes the websocket. Each may be offered once.
fn offered_protocol(headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    let Some(offered) = headers.get(header::SEC_WEBSOCKET_PROTOCOL) else {
        return Ok(None);
    };
    let offered = offered.to_str().map_err(|_| Refusal::BadRequest)?;
    let protocols: Vec<&str> = offered.split(',').map(str::trim).collect();
    let is_once = |(index, protocol): (usize, &&str)| !protocols[..index].contains(protocol);
    let is_token = |protocol: &&str| HeaderName::from_bytes(protocol.as_bytes()).is_ok();
    if !protocols.iter().all(is_token) || !protocols.iter().enumerate().all(is_once) {
        return Err(Refusal::BadRequest);
    }
    Ok(HeaderValue::from_str(protocols[0]).ok())
}
