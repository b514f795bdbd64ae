//! Requests to other servers.
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::http::{self, Request};
use crate::rejection::{in_words, not_json};
use crate::{Context, Error, Rejection};

impl Context {
    /// Sends requests to other servers. Each acts at once, whatever becomes of the handler later, and
    /// its wait counts towards the wall-clock budget of the call. Grant: `http:URL` with a pattern like
    /// `https://api.example.com` or `https://*.example.com:8443/v1/*`, or `http` for all of the
    /// internet.
    ///
    /// ```no_run
    /// use mixlab_plugin::prelude::*;
    ///
    /// #[data]
    /// struct Customer {
    ///     id: String,
    ///     name: String,
    /// }
    ///
    /// fn customer(cx: &Context, id: u64) -> Result<Customer, Rejection> {
    ///     let url = format!("https://crm.example.com/v1/customers/{id}");
    ///     match cx.http().get(&url)? {
    ///         answer if answer.status() == 404 => Err(Rejection::new("unknown", "No such customer")),
    ///         answer => Ok(answer.json()?),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn http(&self) -> Http<'_> {
        Http { _cx: self }
    }
}

/// What [`Context::http`] gives.
#[derive(Debug)]
pub struct Http<'a> {
    /// Requests belong to a call.
    _cx: &'a Context,
}

impl Http<'_> {
    /// Gets what is at a URL.
    pub fn get(&self, url: &str) -> Result<HttpResponse, HttpError> {
        self.request("GET", url).send()
    }

    /// Posts a value as JSON.
    pub fn post_json(
        &self,
        url: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<HttpResponse, HttpError> {
        self.request("POST", url).json(value)?.send()
    }

    /// A request with any method, headers, body and timeout:
    /// `cx.http().request("PUT", url).header("if-match", tag).json(&value)?.send()?`.
    pub fn request(&self, method: &str, url: &str) -> HttpRequest {
        HttpRequest(Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
        })
    }
}

/// A request that has not been sent yet.
#[derive(Debug)]
#[must_use = "nothing is sent without `send`"]
pub struct HttpRequest(Request);

impl HttpRequest {
    /// Adds a header. Those that say how the message is sent, such as `host` and `content-length`, are
    /// the host's.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends these bytes.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.body = bytes.into();
        self
    }

    /// Sends a value as JSON, and says so in `content-type`.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Result<Self, HttpError> {
        let json = serde_json::to_vec(value).map_err(not_json)?;
        Ok(self.header("content-type", "application/json").body(json))
    }

    /// Waits no longer than this for the whole response; without it, as long as the budget `wall`
    /// leaves.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout_ms = Some(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Sends it and waits for the response, also for one that says no.
    pub fn send(self) -> Result<HttpResponse, HttpError> {
        Ok(HttpResponse(http::send(&self.0)?))
    }
}

/// What a server answered. A redirect is not followed.
#[derive(Clone, Debug)]
pub struct HttpResponse(http::Response);

impl HttpResponse {
    /// The status, e.g. 404.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// Whether the status is one of success, 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.0.status)
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.0.headers.iter();
        let found = headers.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All headers, names in lower case.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.0.headers
    }

    /// The body as it was sent.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The body itself.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.0.body
    }

    /// The body of a success as a value; any other status is [`HttpError::Status`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        if !self.is_success() {
            return Err(HttpError::Status(self.status()));
        }
        serde_json::from_slice(self.body()).map_err(|error| HttpError::Invalid(error.to_string()))
    }
}

/// Why there is no answer to a request, or not the one that is wanted.
#[derive(Clone, Debug)]
pub enum HttpError {
    /// The host did not send it.
    Refused(Error),
    /// The server did not answer in time.
    TimedOut,
    /// There was no connection, or it ended before the answer did. The text says which.
    Unreachable(String),
    /// The server answered with a status that is none of success.
    Status(u16),
    /// The body is not what was expected. The text says where.
    Invalid(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => f.write_str(&in_words(error.clone())),
            Self::TimedOut => f.write_str("The server did not answer in time"),
            Self::Unreachable(text) => f.write_str(text),
            Self::Status(status) => write!(f, "The server answered with status {status}"),
            Self::Invalid(text) => write!(f, "The server's answer: {text}"),
        }
    }
}

impl std::error::Error for HttpError {}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        match error {
            Error::TimedOut => Self::TimedOut,
            Error::Unreachable(text) => Self::Unreachable(text),
            refused => Self::Refused(refused),
        }
    }
}

/// `plugin_unavailable` where it may be otherwise in a while, without a word of which server it is
/// about; else the plugin failed, and the text goes to the log.
impl From<HttpError> for Rejection {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Refused(error) => error.into(),
            HttpError::TimedOut | HttpError::Unreachable(_) | HttpError::Status(429 | 500..) => {
                Error::Unreachable(error.to_string()).into()
            }
            HttpError::Status(_) | HttpError::Invalid(_) => {
                Self::new("plugin_error", error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> HttpResponse {
        HttpResponse(http::Response {
            status,
            headers: vec![("x-a".to_owned(), "b".to_owned())],
            body: body.as_bytes().to_vec(),
        })
    }

    #[test]
    fn a_body_is_read_of_a_success_only() {
        assert_eq!(response(201, "[1]").json::<Vec<u8>>().unwrap(), [1]);
        for status in [199, 301, 404, 500] {
            let refused = response(status, "[1]").json::<Vec<u8>>();
            assert!(matches!(refused, Err(HttpError::Status(told)) if told == status));
        }
        let other = response(200, "{}").json::<Vec<u8>>().unwrap_err();
        assert!(
            other.to_string().starts_with("The server's answer: "),
            "{other}"
        );
    }

    #[test]
    fn a_header_is_found_in_any_case() {
        let response = response(200, "");
        assert_eq!(
            (response.header("X-A"), response.header("x-b")),
            (Some("b"), None)
        );
    }

    #[test]
    fn a_client_hears_nothing_of_the_server() {
        for (error, code, temporary) in [
            (HttpError::TimedOut, "plugin_unavailable", true),
            (
                HttpError::Unreachable("crm.internal: x".to_owned()),
                "plugin_unavailable",
                true,
            ),
            (HttpError::Status(503), "plugin_unavailable", true),
            (HttpError::Status(429), "plugin_unavailable", true),
            // What is said of these goes to the log.
            (HttpError::Status(404), "plugin_error", false),
            (HttpError::Invalid("x".to_owned()), "plugin_error", false),
            (
                HttpError::Refused(Error::Denied("x".to_owned())),
                "plugin_error",
                false,
            ),
        ] {
            let rejection = Rejection::from(error);
            assert_eq!(
                (rejection.code.as_str(), rejection.temporary),
                (code, temporary)
            );
            assert!(!rejection.message.contains("crm") || code == "plugin_error");
        }
    }
}
