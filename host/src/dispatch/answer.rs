//! What a client is told of its event: one ack, or `mixlab:error` where it asked for none.

use std::{mem, sync::Arc};

use serde_json::value::RawValue;

use super::{
    failure::{self, During},
    host_events::AUTHENTICATE,
};
use crate::{
    capability::Written,
    connection::Connection,
    error::{ConnectError, WireError},
    guest,
    message::{Arguments, Message, check_nesting},
    plugin::{CallError, CallKind, Plugin},
    telemetry::Span,
};

/// The answer that an event is owed.
pub(super) struct Answer {
    /// Who sent it.
    pub connection: Arc<Connection>,
    /// The event's name.
    pub event: Arc<str>,
    /// What traces the event, until it is answered.
    pub span: Span,
    way: Way,
}

/// How a client is told.
#[derive(Clone, Copy)]
enum Way {
    /// By the ack of this number.
    Ack(i64),
    /// It asked for no ack: of errors only, by an event.
    Event,
    /// It has been told already.
    Told,
}

impl Answer {
    pub(super) fn new(
        connection: Arc<Connection>,
        event: Arc<str>,
        ack: Option<i64>,
        span: Span,
    ) -> Self {
        Self {
            connection,
            event,
            span,
            way: ack.map_or(Way::Event, Way::Ack),
        }
    }

    /// The same, to be given in its place.
    pub(super) fn hand_over(&mut self) -> Self {
        Self {
            connection: self.connection.clone(),
            event: self.event.clone(),
            span: mem::take(&mut self.span),
            way: mem::replace(&mut self.way, Way::Told),
        }
    }

    /// Whether the client waits for an ack.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self.way, Way::Ack(_))
    }

    /// Acks, where an ack was asked for.
    pub(super) fn ack(&self, message: Message) {
        if let Way::Ack(id) = self.way {
            self.connection.ack(id, message);
        }
    }

    /// Acks a result of the host's own.
    pub(super) fn give(self, result: Result<Message, WireError>) {
        match result {
            Ok(message) => self.ack(message),
            Err(error) if &*self.event == AUTHENTICATE => {
                // Its event `authenticated` tells those who asked for no ack.
                self.log(&error);
                self.ack(error.to_message());
            }
            Err(error) => self.refuse(error),
        }
    }

    /// Tells the client of an error. The blame is the client's, or nobody's.
    pub(super) fn refuse(&self, error: WireError) {
        self.log(&error);
        self.tell(&error);
    }

    /// Tells the client that the plugin failed, and the log why.
    pub(super) fn plugin_failed(
        &self,
        plugin: &Plugin,
        kind: CallKind,
        error: &CallError,
        written: Option<&Written>,
    ) {
        self.span.has_failed(error.reason());
        let during = During::of(kind, &self.event, &self.connection).within(&self.span);
        let error = failure::report(plugin, &during, error, written);
        self.tell(&error);
    }

    fn log(&self, error: &WireError) {
        let Self {
            connection, event, ..
        } = self;
        self.span.is_refused(&error.code);
        tracing::debug!(socket = connection.id, event = &**event, code = %error.code, "refused: {}", error.message);
    }

    fn tell(&self, error: &WireError) {
        match self.way {
            Way::Ack(id) => self.connection.ack(id, error.to_message()),
            Way::Event => self.connection.tell_error(error),
            Way::Told => {}
        }
    }
}

/// Checks a plugin's "no". One that blames the plugin is none.
pub(super) fn rejection(rejection: guest::Rejection) -> Result<WireError, CallError> {
    let guest::Rejection {
        code,
        message,
        temporary,
        retry_after_ms,
        details,
    } = rejection;
    if blames_plugin(&code) {
        return Err(CallError::GaveUp(message));
    }
    if !is_code(&code) {
        return Err(CallError::Invalid(format!(
            "it rejected with code {code:?}; a code is [a-z0-9_]{{1,64}}"
        )));
    }
    Ok(WireError {
        code: code.into(),
        message: message.into(),
        temporary,
        retry_after_ms,
        details: checked_json(details, "details of its rejection")?,
        trace_id: None,
    })
}

/// Checks a plugin's "no" to a client that wants to connect. One that blames the plugin is none.
pub(super) fn refusal(refusal: guest::Refusal) -> Result<ConnectError, CallError> {
    let guest::Refusal { message, data } = refusal;
    if blames_plugin(&message) {
        return Err(CallError::GaveUp(data.unwrap_or(message)));
    }
    Ok(ConnectError {
        message: message.into(),
        data: checked_json(data, "data of its refusal")?,
        is_temporary: false,
    })
}

/// Whether this is a code by which a plugin says that the client is not to blame. Why is for the log:
/// the words are mostly the host's, and name what `mixlab.toml` does not grant or allow.
pub(crate) fn blames_plugin(code: &str) -> bool {
    matches!(code, "plugin_error" | "internal")
}

fn checked_json(text: Option<String>, what: &str) -> Result<Option<Box<RawValue>>, CallError> {
    let Some(text) = text else { return Ok(None) };
    let json = RawValue::from_string(text)
        .map_err(|error| CallError::Invalid(format!("the {what} are no JSON: {error}")))?;
    check_nesting(json.get())
        .map_err(|error| CallError::Invalid(format!("the {what} are {error}")))?;
    Ok(Some(json))
}

fn is_code(code: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&code.len()) && code.bytes().all(word)
}

/// A message whose only argument is `{"success":true}`.
pub(super) fn success() -> Message {
    Message::text(Arguments::parse(r#"[{"success":true}]"#.to_owned()).expect("it is an array"))
}
