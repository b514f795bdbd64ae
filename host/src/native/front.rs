//! The requests to a native endpoint: they are held to the bounds of the plugins' endpoint before
//! socketioxide has them.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{self, HeaderValue, Uri},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use socketioxide::{SocketIo, socket::Sid};

use super::{carrier::Carrier, client::Session};
use crate::transport::{Query, Refusal, Sessions, accept, admit, is_wanted, routes};

/// Lets clients begin sessions.
pub(crate) struct Front {
    io: SocketIo,
    carrier: Arc<Carrier>,
    sessions: Arc<Sessions>,
}

impl Front {
    pub(super) fn new(io: SocketIo, carrier: Carrier, sessions: Arc<Sessions>) -> Self {
        Self {
            io,
            carrier: Arc::new(carrier),
            sessions,
        }
    }

    /// The endpoint's sockets and handlers.
    pub(crate) fn io(&self) -> &SocketIo {
        &self.io
    }

    /// The path of the endpoint.
    pub(crate) fn path(&self) -> &str {
        self.carrier.path()
    }

    /// The routes of the endpoint.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        routes(self.path(), serve).with_state(self.clone())
    }

    /// Ends all sessions, for a server that stops. No new ones begin.
    pub(crate) fn close(&self) {
        self.carrier.close();
        for namespace in self.io.nsps() {
            for socket in namespace.sockets() {
                self.carrier.end(socket.id);
            }
        }
    }

    /// In the order of the checks at the plugins' endpoint.
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let query = Query::of(request.uri());
        if !self.sessions.policy.transports.allow(query.transport) {
            return Err(Refusal::UnknownTransport);
        }
        let is_websocket = query.transport == Some("websocket");
        if is_websocket && !is_wanted(request.headers()) {
            return Err(Refusal::BadRequest);
        }
        match query.session {
            None if query.version != Some("4") => Err(Refusal::UnsupportedProtocolVersion),
            None => self.begin(request, is_websocket).await,
            Some(id) if is_websocket => {
                let id = id.parse().map_err(|_| Refusal::UnknownSession)?;
                self.upgrade(id, request)
            }
            Some(_) => self.carrier.answer(request).await,
        }
    }

    /// Begins a session.
    async fn begin(&self, request: Request, is_websocket: bool) -> Result<Response, Refusal> {
        if self.carrier.is_closing() {
            return Err(Refusal::TooManySessions);
        }
        let address = admit(&request, &self.sessions)?;
        let guest = self.sessions.count_guest(address)?;
        let session = Arc::new(Session::new(address, guest, self.carrier.clone()));
        let mut kept = copied(&request);
        kept.extensions_mut().insert(session.clone());
        kept.extensions_mut().insert(address.ip());
        if !is_websocket {
            return self.carrier.answer(kept.map(|()| Body::empty())).await;
        }
        let (response, connection) = accept::answer(request)?;
        let end = session.websocket.clone();
        self.carrier.open(connection, kept, end, None);
        Ok(response)
    }

    /// Moves a session from polling to a websocket.
    fn upgrade(&self, id: Sid, request: Request) -> Result<Response, Refusal> {
        let (end, moved) = self.carrier.begin_move(id).ok_or(Refusal::BadRequest)?;
        let kept = copied(&request);
        let (response, connection) = accept::answer(request)?;
        self.carrier.open(connection, kept, end, Some(moved));
        Ok(response)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _runtime = self.carrier.runtime().enter();
        // Handlers may have something that has the endpoint: none of it would ever go.
        self.io.close().now_or_never();
    }
}

async fn serve(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.answer(request).await.unwrap_or_else(|refusal| {
        let path = front.path();
        tracing::debug!(?refusal, path, "a request to a native endpoint is refused");
        refusal.into_response()
    })
}

/// The head of a request without what it shares with others: as long as a session lasts it would keep the
/// buffer that the request was read into.
fn copied(request: &Request) -> http::Request<()> {
    let mut copy = http::Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.version_mut() = request.version();
    *copy.uri_mut() = Uri::try_from(request.uri().to_string()).expect("it was one");
    let headers = copy.headers_mut();
    for (name, value) in request.headers() {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("it was one");
        headers.append(name, value);
    }
    copy
}
