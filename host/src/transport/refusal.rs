//! engine.io's answers to requests that it does not serve, as the Node server words them.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

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
            Self::UnsupportedProtocolVersion => (5, "Unsupported protocol version"),
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedWebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// From socketioxide's own refusal, which has the code as a text, or no body at all.
    pub fn from_answer(body: &[u8]) -> Self {
        if body.starts_with(br#"{"code":"1""#) {
            Self::UnknownSession
        } else {
            Self::BadRequest
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, message) = self.code_and_message();
        let body = Json(json!({ "code": code, "message": message }));
        let mut response = (self.status(), body).into_response();
        if self == Self::UnsupportedWebSocketVersion {
            response.headers_mut().insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static(super::websocket::VERSION),
            );
        }
        response
    }
}
