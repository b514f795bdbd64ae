//! The Socket.IO endpoint: which requests are served, and by whom. Requests are refused in the order
//! and the words of the Node server.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    http::{Method, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    origin::Origin,
    polling,
    refusal::Refusal,
    session::Transport,
    sessions::Sessions,
    websocket::{accept, wanted},
};
use crate::transport::net::Deferral;

/// What a request asks for.
pub(crate) struct Query<'a> {
    /// `polling` or `websocket`, if it is a good one.
    pub transport: Option<&'a str>,
    /// The id of the session that it is about; none if it begins one.
    pub session: Option<&'a str>,
    /// The version of Engine.IO's protocol, `4`.
    pub version: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Reads a request's parameters.
    pub(crate) fn of(uri: &'a Uri) -> Self {
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

/// The routes of the endpoint at `path`.
pub(crate) fn router(path: &str, sessions: Arc<Sessions>) -> Router {
    routes(path, serve).with_state(sessions)
}

/// The routes of an endpoint at `path` that serves requests by any method. Those that clients use are
/// named, so that no other route can take them over.
pub(crate) fn routes<H, T, S>(path: &str, serve: H) -> Router<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    let path = path.trim_end_matches('/');
    let methods = get(serve.clone()).post(serve.clone()).fallback(serve);
    Router::new()
        .route(path, methods.clone())
        .route(&format!("{path}/"), methods)
}

async fn serve(State(sessions): State<Arc<Sessions>>, request: Request) -> Response {
    answered(answer(sessions, request).await)
}

fn answered(answer: Result<Response, Refusal>) -> Response {
    answer.unwrap_or_else(|refusal| {
        tracing::debug!(?refusal, "a request to the Socket.IO endpoint is refused");
        refusal.into_response()
    })
}

/// In the order of the Node server's checks, so that a request with several mistakes gets the same
/// code.
async fn answer(sessions: Arc<Sessions>, request: Request) -> Result<Response, Refusal> {
    let query = Query::of(request.uri());
    if !sessions.policy.transports.allow(query.transport) {
        return Err(Refusal::UnknownTransport);
    }
    let is_websocket = query.transport == Some("websocket");
    let wants_upgrade = wanted::is_wanted(request.headers());
    if let Some(id) = query.session {
        if let Some(relay) = sessions.relay()
            && let Some(server) = relay.other(id, &request)?
        {
            return relay.pass_on(&server, request).await;
        }
        let session = sessions.get(id).ok_or(Refusal::UnknownSession)?;
        return match (is_websocket, request.method()) {
            (true, _) if wants_upgrade => accept::upgrade(session, request),
            (false, _) if session.transport() == Transport::Websocket => Err(Refusal::BadRequest),
            (false, &Method::GET) => {
                let coding = polling::coding(session.policy(), request.headers());
                let poll = async move { answered(polling::poll(session, coding).await) };
                Ok(Deferral::answer(request, poll).await)
            }
            (false, &Method::POST) => polling::post(session, request).await,
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
    let origin = Origin::of(&request, &sessions)?;
    if is_websocket {
        accept::open(sessions, origin, request)
    } else {
        let session = sessions.begin(origin.address, origin.handshake)?;
        let mut response = polling::response(session.greeting().into());
        // As in Node, not over a websocket: that has no further request for a balancer.
        let cookie = sessions.policy.cookie.as_ref();
        let cookie = cookie.map(|cookie| cookie.header(&sessions.id_of(session.id)));
        let cookie = cookie.map(|cookie| (header::SET_COOKIE, cookie));
        response.headers_mut().extend(cookie);
        Ok(response)
    }
}
