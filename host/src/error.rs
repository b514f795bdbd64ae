//! The one error shape that clients and backends see, and who is to blame for it.

use std::{borrow::Cow, fmt, num::NonZeroU128, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::message::{Arguments, Message};

/// The event that tells a client of an error when it asked for no ack.
pub(crate) const ERROR_EVENT: &str = "mixlab:error";

/// An error as it goes over the wire:
/// `{"code","message","temporary","retry_after_ms"?,"details"?,"trace_id"?}`.
///
/// The message is for people and never holds a trap's text, a token or a path: what went wrong
/// inside a plugin or the host is in the log, under the trace id.
#[derive(Debug, Clone, Serialize)]
pub struct WireError {
    /// A stable word for programs.
    pub code: Cow<'static, str>,
    /// One sentence for people.
    pub message: Cow<'static, str>,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// How long to wait before it is worth trying again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Anything more, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<RawValue>>,
    /// Finds the log line that tells the whole story.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
}

/// Ties an answer to its log line, and to its trace where there is one: 32 hexadecimal digits, as W3C Trace Context
/// has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// A new, random id.
    pub fn random() -> Self {
        Self(NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN))
    }

    /// Reads 32 hexadecimal digits that are not all zero.
    pub(crate) fn parse(digits: &str) -> Option<Self> {
        let are_all = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(digits, 16).ok().filter(|_| are_all)?;
        NonZeroU128::new(number).map(Self)
    }

    /// Its last 8 bytes, which are random.
    pub(crate) fn low(self) -> u64 {
        self.0.get() as u64
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a client is not let into a namespace, as the packet CONNECT_ERROR has it:
/// `{"message","data"?}`.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectError {
    /// Clients tell errors apart by this text alone. Of the host's own errors it is the code.
    pub message: Cow<'static, str>,
    /// Anything more, as JSON. Of the host's own errors it is the whole error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Whether the same client may be let in later.
    #[serde(skip)]
    pub is_temporary: bool,
}

impl ConnectError {
    /// An error that is no more than this text.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            data: None,
            is_temporary: false,
        }
    }
}

impl From<WireError> for ConnectError {
    fn from(error: WireError) -> Self {
        Self {
            data: serde_json::value::to_raw_value(&error).ok(),
            is_temporary: error.temporary,
            message: error.code,
        }
    }
}

/// An error as the argument of an ack or of `mixlab:error`, and as an HTTP body: `{"error":{…}}`.
#[derive(Serialize)]
pub(crate) struct Envelope<'a> {
    pub error: &'a WireError,
}

impl WireError {
    /// An error that trying again does not mend.
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            temporary: false,
            retry_after_ms: None,
            details: None,
            trace_id: None,
        }
    }

    /// An error that may be gone on the next try.
    pub fn temporary(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            temporary: true,
            ..Self::new(code, message)
        }
    }

    /// Adds details that serialise to JSON.
    pub fn with_details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::value::to_raw_value(details).ok();
        self
    }

    /// Adds how long to wait, rounded up: whoever waits that long may try again.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(wait.as_micros().div_ceil(1000) as u64);
        self
    }

    /// Adds the id of the log line.
    pub fn with_trace(mut self, trace_id: TraceId) -> Self {
        self.trace_id = Some(trace_id);
        self
    }

    /// `{"error":{…}}`, as an HTTP body.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Envelope { error: self })
            .expect("strings and numbers always serialise")
    }

    /// `[{"error":{…}}]`, as the arguments of an ack or of `mixlab:error`.
    pub fn to_message(&self) -> Message {
        Message::text(Arguments::from_serialized(&[&Envelope { error: self }]))
    }
}
