//! engine.io's answers to requests that it does not serve, as the Node server words them.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// The version of the websocket protocol (RFC 6455).
pub(crate) const WEBSOCKET_VERSION: &str = "13";

/// When a client that found no room may try again, in seconds.
const RETRY_AFTER: u64 = 5;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Neither `polling` nor `websocket`.
    UnknownTransport,
    /// The session has ended, or never was.
    UnknownSession,
    /// A session begins with GET.
    BadHandshakeMethod,
    /// Anything else that makes no sense, e.g. polling a session that has a websocket.
    BadRequest,
    /// Clients older than Socket.IO 3 speak another protocol.
    UnsupportedProtocolVersion,
    /// More in a request's head than is kept of it.
    HeadTooLarge,
    /// More than the server takes at once.
    PayloadTooLarge,
    /// Not the version of the websocket protocol that there is.
    UnsupportedWebSocketVersion,
    /// It says that a server has passed it on, and none has.
    Forged,
    /// There are as many sessions as there may be, of all or of the client's address.
    TooManySessions,
    /// The server leaves, and takes no more.
    Leaving,
    /// New sessions come too often from the client's address.
    TooOften(Duration),
}

impl Refusal {
    fn code_and_message(self) -> (u8, &'static str) {
        match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadHandshakeMethod => (2, "Bad handshake method"),
            Self::BadRequest
            | Self::HeadTooLarge
            | Self::PayloadTooLarge
            | Self::UnsupportedWebSocketVersion => (3, "Bad request"),
            Self::Forged | Self::TooManySessions | Self::Leaving | Self::TooOften(_) => {
                (4, "Forbidden")
            }
            Self::UnsupportedProtocolVersion => (5, "Unsupported protocol version"),
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedWebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Forged => StatusCode::FORBIDDEN,
            Self::TooManySessions | Self::Leaving => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, message) = self.code_and_message();
        let body = Json(json!({ "code": code, "message": message }));
        let mut response = (self.status(), body).into_response();
        let more = match self {
            Self::UnsupportedWebSocketVersion => Some((
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static(WEBSOCKET_VERSION),
            )),
            Self::TooManySessions => Some((header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER))),
            Self::TooOften(wait) => {
                let seconds = wait.as_millis().div_ceil(1000) as u64;
                Some((header::RETRY_AFTER, HeaderValue::from(seconds)))
            }
            _ => None,
        };
        response.headers_mut().extend(more);
        response
    }
}
