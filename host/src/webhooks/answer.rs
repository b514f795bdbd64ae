//! What a plugin answers to a webhook: checked, kept, and sent.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{error::WireError, guest::webhooks};

/// The headers that plugins may answer with. Others speak for the server: to proxies, to browsers about
/// its pages, or of how a body is sent.
const HEADERS: [HeaderName; 4] = [
    header::CACHE_CONTROL,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::RETRY_AFTER,
];

/// Larger answers are refused: they are kept.
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_HEADER_BYTES: usize = 1024;

/// How long a sender should wait that is not told otherwise, in seconds.
const RETRY_AFTER: u64 = 5;

/// An answer that may be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// In base64.
    body: String,
}

impl Answer {
    /// Its status.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Checks a plugin's answer.
    pub(crate) fn new(response: webhooks::Response) -> Result<Self, String> {
        let webhooks::Response {
            status,
            headers,
            body,
        } = response;
        if !matches!(status, 200..=299 | 400..=599) {
            return Err(format!("its answer has the status {status}"));
        }
        if body.len() > MAX_BODY_BYTES {
            let size = body.len();
            return Err(format!(
                "its answer has {size} bytes; {MAX_BODY_BYTES} are allowed"
            ));
        }
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if size > MAX_HEADER_BYTES {
            return Err(format!(
                "the headers of its answer have more than {MAX_HEADER_BYTES} bytes"
            ));
        }
        let mut checked: Vec<(String, String)> = Vec::with_capacity(headers.len());
        for (written, value) in headers {
            let name = written.to_ascii_lowercase();
            let is_allowed = HEADERS.iter().any(|allowed| allowed.as_str() == name);
            if !is_allowed || HeaderValue::from_str(&value).is_err() {
                return Err(format!(
                    "its answer has the header {written:?}, which is not for plugins, or a value that is none"
                ));
            }
            if checked.iter().any(|(former, _)| *former == name) {
                return Err(format!("its answer has the header {written:?} twice"));
            }
            checked.push((name, value));
        }
        Ok(Self {
            status,
            headers: checked,
            body: STANDARD.encode(body),
        })
    }

    /// Whether what the call recorded is to happen, and the delivery is done with.
    pub(crate) fn is_yes(&self) -> bool {
        self.status < 400
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let body = STANDARD.decode(self.body).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value.try_into()) {
                response.headers_mut().append(name, value);
            }
        }
        tame(response)
    }
}

/// The answer of a request that has had no effect. Senders try again what is temporary.
pub(super) fn refusal(error: WireError) -> Response {
    let wait = error.retry_after_ms.map(|wait| wait.div_ceil(1000));
    let wait = wait.or(error.temporary.then_some(RETRY_AFTER));
    let json = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (status(&error), json, error.to_json()).into_response();
    if let Some(wait) = wait {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, wait.into());
    }
    tame(response)
}

/// The status of such an answer.
pub(crate) fn status(error: &WireError) -> StatusCode {
    let is_plugins_own = error.trace_id.is_none();
    match &*error.code {
        "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
        _ if error.temporary => StatusCode::SERVICE_UNAVAILABLE,
        "invalid_signature" => StatusCode::UNAUTHORIZED,
        "not_found" => StatusCode::NOT_FOUND,
        "payload_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "plugin_error" | "plugin_unavailable" | "internal" => StatusCode::INTERNAL_SERVER_ERROR,
        _ if is_plugins_own => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whatever a plugin answers is no page of this server.
fn tame(mut response: Response) -> Response {
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
