//! Building a [`Rejection`], the expected "no" to a client.
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::{Error, Rejection};

impl Rejection {
    /// A "no" that stays a "no". `code` is a stable word for programs, `[a-z0-9_]{1,64}`;
    /// `message` is one sentence for people. The code `plugin_error` says that the plugin failed: the
    /// host logs the message, and keeps it from the client.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            temporary: false,
            retry_after_ms: None,
            details: None,
        }
    }

    /// The payload is not what the event takes.
    pub fn invalid_payload(message: impl Into<String>) -> Self {
        Self::new("invalid_payload", message)
    }

    /// The user may not do this.
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::new("permission_denied", message)
    }

    /// The same event may succeed later.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// The same event may succeed after this long.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.temporary()
    }

    /// Anything more that the client should know. What cannot be JSON is left out.
    #[must_use]
    pub fn details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::to_string(details).ok();
        self
    }
}

/// What the host refused is the plugin's or the admin's mistake and not the client's: the text goes to
/// the log, and the client is told that the plugin failed. What may be otherwise another time is
/// `plugin_unavailable`, or `no_answer` if it is a client's doing.
impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(_) | Error::Invalid(_) | Error::OverBudget(_) | Error::NoConnection => {
                Self::new("plugin_error", in_words(error))
            }
            Error::Busy(_) => {
                Self::new("plugin_unavailable", "The plugin is busy, try again").temporary()
            }
            Error::Unavailable(_) => {
                Self::new("plugin_unavailable", "The store is not available").temporary()
            }
            Error::TimedOut | Error::Disconnected => {
                Self::new("no_answer", in_words(error)).temporary()
            }
            Error::Unreachable(_) => Self::new(
                "plugin_unavailable",
                "A server that the plugin needs does not answer, try again",
            )
            .temporary(),
        }
    }
}

/// What an error says.
pub(crate) fn in_words(error: Error) -> String {
    match error {
        Error::Denied(text)
        | Error::Invalid(text)
        | Error::OverBudget(text)
        | Error::Busy(text)
        | Error::Unavailable(text)
        | Error::Unreachable(text) => text,
        Error::NoConnection => "The call is for no connection".to_owned(),
        Error::TimedOut => "There was no answer in time".to_owned(),
        Error::Disconnected => "The connection ended before the client answered".to_owned(),
    }
}

/// A value that cannot be JSON, such as a map with keys that are no strings.
pub(crate) fn not_json(error: impl fmt::Display) -> Error {
    Error::Invalid(format!("cannot be JSON: {error}"))
}
