//! The HTTP service in front of socketioxide. It owns every request of the Socket.IO endpoint, and
//! gives socketioxide the part of them that is not its own work:
//!
//! - clients are introduced to their connections by a public id ([`Session`]);
//! - the first ping of a session comes after an interval, as the protocol has it;
//! - a session moves from polling to a websocket without losing packets, or stays with polling;
//! - events may have any name ([`super::event_name`]);
//! - requests are refused, and polls end, as in the Node server.

use std::sync::Arc;

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{self, HeaderMap, HeaderName, HeaderValue, Method, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::service::Service;

use super::{
    Peer, SocketIoService, polling,
    refusal::Refusal,
    session::{Session, Sessions},
    websocket,
};
use crate::config;

/// The only header that the host itself reads later: proxies name the client in it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The front of one Socket.IO endpoint.
pub struct Front {
    pub(super) service: SocketIoService,
    pub(super) sessions: Arc<Sessions>,
    /// The largest message from a client, in bytes.
    pub(super) max_payload: usize,
    path: String,
}

/// What a request asks for.
struct Query<'a> {
    transport: Option<&'a str>,
    session: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> Query<'a> {
    fn of(uri: &'a Uri) -> Self {
        let pairs = || uri.query().unwrap_or_default().split('&');
        // Clients percent-encode none of the values that make sense here.
        let value =
            |name: &str| pairs().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        Self {
            transport: value("transport"),
            session: value("sid").filter(|sid| !sid.is_empty()),
            version: value("EIO"),
        }
    }
}

impl Front {
    /// The routes of the endpoint that `service` serves.
    pub fn router(
        service: SocketIoService,
        sessions: Arc<Sessions>,
        config: &config::Socket,
    ) -> Router {
        let path = config.path.trim_end_matches('/').to_owned();
        let front = Arc::new(Self {
            service,
            sessions,
            max_payload: config.max_payload.as_usize(),
            path: path.clone(),
        });
        Router::new()
            .route(&path, any(serve))
            .route(&format!("{path}/"), any(serve))
            .with_state(front)
    }

    /// A request for socketioxide. It keeps some for as long as the socket lives, so nothing in
    /// it borrows from what the client sent: that would keep the whole read buffer of the HTTP
    /// connection.
    pub(super) fn request<B>(
        &self,
        method: Method,
        transport: &str,
        session: Option<&str>,
        body: B,
    ) -> http::Request<B> {
        let path = &self.path;
        let uri = match session {
            Some(session) => format!("{path}/?EIO=4&transport={transport}&sid={session}"),
            None => format!("{path}/?EIO=4&transport={transport}"),
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri
            .parse()
            .expect("path and session id have URL characters only");
        request
    }

    /// The request that begins a session.
    pub(super) fn opening_request<B>(
        &self,
        transport: &str,
        origin: Origin,
        session: Arc<Session>,
        body: B,
    ) -> http::Request<B> {
        let mut request = self.request(Method::GET, transport, None, body);
        *request.headers_mut() = origin.headers;
        request.extensions_mut().insert(session);
        if let Some(peer) = origin.peer {
            request.extensions_mut().insert(peer);
        }
        request
    }

    /// Has socketioxide answer a request. Its refusals become ours.
    pub(super) async fn ask(
        &self,
        request: http::Request<axum::body::Body>,
    ) -> Result<Bytes, Refusal> {
        let Ok(response) = self.service.call(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let body = body.map_err(|_| Refusal::BadRequest)?;
        match parts.status {
            http::StatusCode::OK => Ok(body),
            http::StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal::PayloadTooLarge),
            _ => Err(Refusal::from_answer(&body)),
        }
    }
}

/// Where a request comes from, as far as the host asks for it later.
pub struct Origin {
    peer: Option<ConnectInfo<Peer>>,
    headers: HeaderMap,
}

impl Origin {
    /// Copies it from a request.
    pub fn of(request: &Request) -> Self {
        let mut headers = HeaderMap::new();
        for value in request.headers().get_all(FORWARDED_FOR) {
            // A copy, see `Front::request`.
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(FORWARDED_FOR, value);
            }
        }
        Self {
            peer: request.extensions().get().copied(),
            headers,
        }
    }
}

async fn serve(State(front): State<Arc<Front>>, request: Request) -> Response {
    match answer(front, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(?refusal, "a request to the Socket.IO endpoint is refused");
            refusal.into_response()
        }
    }
}

/// In the order of the Node server's checks, so that a request with several mistakes gets the
/// same code.
async fn answer(front: Arc<Front>, request: Request) -> Result<Response, Refusal> {
    let query = Query::of(request.uri());
    let is_websocket = match query.transport {
        Some("websocket") => true,
        Some("polling") => false,
        _ => return Err(Refusal::UnknownTransport),
    };
    let wants_upgrade = websocket::is_wanted(request.headers());
    if let Some(id) = query.session {
        let Some(session) = front.sessions.get(id) else {
            return Err(unknown_session(&front, id).await);
        };
        let id = id.to_owned();
        return match (is_websocket, request.method()) {
            (true, _) if wants_upgrade => websocket::upgrade(front, session, id, request),
            (false, _) if session.is_on_websocket() => Err(Refusal::BadRequest),
            (false, &Method::GET) => polling::poll(front, session, id).await,
            (false, &Method::POST) => polling::post(front, session, id, request).await,
            _ => Err(Refusal::BadRequest),
        };
    }
    if request.method() != Method::GET {
        return Err(Refusal::BadHandshakeMethod);
    }
    if is_websocket && !wants_upgrade {
        return Err(Refusal::BadRequest);
    }
    if query.version != Some("4") {
        return Err(Refusal::UnsupportedProtocolVersion);
    }
    if is_websocket {
        websocket::open(front, request)
    } else {
        polling::open(&front, request).await
    }
}

/// The refusal for a session that did not begin with polling: socketioxide knows whether there is
/// one with a websocket.
async fn unknown_session(front: &Front, id: &str) -> Refusal {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !id.bytes().all(is_id) {
        return Refusal::UnknownSession;
    }
    let request = front.request(Method::POST, "polling", Some(id), Default::default());
    front
        .ask(request)
        .await
        .err()
        .unwrap_or(Refusal::BadRequest)
}
