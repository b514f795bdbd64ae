//! A plugin that gave no answer: who hears what of it.

use crate::{
    address::ClientAddress,
    capability::Written,
    connection::Connection,
    error::{TraceId, WireError},
    plugin::{CallError, CallKind, Paused, Plugin},
    shorten::shortened,
    telemetry::Span,
};

/// How much of an event's name is logged. Where a plugin takes every event, clients choose it.
const MAX_EVENT_CHARS: usize = 128;

/// How much of a failure is logged. A plugin's own words may be as long as its budget allows.
const MAX_ERROR_CHARS: usize = 8192;

/// The call that failed.
#[derive(Clone, Copy)]
pub(super) struct During<'a> {
    kind: CallKind,
    /// What it was for, e.g. the event's name.
    name: &'a str,
    client: Option<ClientAddress>,
    socket: Option<&'a str>,
    /// The trace that it is of, if it is traced.
    trace: Option<TraceId>,
}

impl<'a> During<'a> {
    /// A call for a connection.
    pub(super) fn of(kind: CallKind, name: &'a str, connection: &'a Connection) -> Self {
        Self {
            kind,
            name,
            client: Some(connection.address),
            socket: Some(&connection.id),
            trace: None,
        }
    }

    /// A call for no connection, on behalf of a client at this address if there is one.
    pub(super) fn without_connection(
        kind: CallKind,
        name: &'a str,
        client: Option<ClientAddress>,
    ) -> Self {
        Self {
            kind,
            name,
            client,
            socket: None,
            trace: None,
        }
    }

    /// The same, as a part of this span.
    pub(super) fn within(self, span: &Span) -> Self {
        Self {
            trace: span.trace_id(),
            ..self
        }
    }
}

/// Counts and logs a failed call, with what the guest `written` before. Returns what the client sees
/// of it: never the trap's text, but the trace id of the log line.
pub(super) fn report(
    plugin: &Plugin,
    during: &During<'_>,
    error: &CallError,
    written: Option<&Written>,
) -> WireError {
    let During {
        kind,
        client,
        socket,
        trace,
        ..
    } = *during;
    let during = &*shortened(during.name, MAX_EVENT_CHARS);
    if let CallError::Conflict | CallError::Store(_) | CallError::Overdue = error {
        // What others do to the store, and what becomes of its disk, is no fault of the plugin.
        let name = &**plugin.name();
        tracing::debug!(
            plugin = name,
            event = during,
            "nothing of a call happens: {error}"
        );
        return wire(error);
    }
    let mut reason = shortened(error, MAX_ERROR_CHARS);
    // The journal has the lines that were logged.
    let mut in_journal = reason.clone();
    if let Some(written) = written {
        reason += &written.to_string();
        if let Some(printed) = written.printed() {
            in_journal += &format!("\n{}", printed.trim_end());
        }
    }
    let trace_id = trace.unwrap_or_else(TraceId::random);
    plugin.failed(kind, client, during, error, &reason, &trace_id);
    if let Some(recording) = written.and_then(Written::recording) {
        recording.failed(trace_id, &reason);
    }
    let wire = wire(error);
    if let CallError::Paused(_) = error {
        // Logged when the pause began.
        return wire;
    }
    let journal = plugin.health().journal();
    if let Some(call) = written.and_then(Written::call) {
        journal.trace(call, trace_id);
    }
    journal.failed(during, &in_journal, Some(trace_id));
    // A guest's words have many lines, and each of them is found by the trace id.
    let reason = reason.replace('\n', &format!("\n{trace_id} "));
    let (name, version) = (&**plugin.name(), plugin.version());
    let (generation, socket) = (plugin.generation(), socket.unwrap_or("none"));
    if let CallError::Host(_) = error {
        tracing::error!(plugin = name, version, generation, event = during, socket, %trace_id, "{trace_id} a call failed: {reason}");
    } else {
        tracing::warn!(plugin = name, version, generation, event = during, socket, %trace_id, "{trace_id} a call failed: {reason}");
    }
    wire.with_trace(trace_id)
}

/// What a client is told whose event may have been handled, or may be handled later, or not at all.
pub(super) fn outcome_unknown() -> WireError {
    let error = "the disk takes too long, and nobody knows what becomes of the event";
    WireError::temporary("outcome_unknown", error)
}

fn wire(error: &CallError) -> WireError {
    match error {
        CallError::Timeout { .. } => {
            WireError::temporary("plugin_timeout", "the plugin took too long")
        }
        CallError::OverBudget(_)
        | CallError::Misfit(_)
        | CallError::Trap(_)
        | CallError::Script(_)
        | CallError::Invalid(_)
        | CallError::GaveUp(_) => WireError::new("plugin_error", "the plugin failed"),
        CallError::Paused(Paused::For(wait)) => {
            let error = WireError::temporary("plugin_unavailable", "the plugin is paused");
            error.with_retry_after(*wait)
        }
        CallError::Paused(Paused::Disabled) => {
            WireError::new("plugin_unavailable", "the plugin is switched off")
        }
        CallError::Conflict => {
            WireError::temporary("conflict", "others change the same, try again")
        }
        CallError::Overdue => outcome_unknown(),
        CallError::Busy
        | CallError::Exhausted(_)
        | CallError::Superseded
        | CallError::Outdated
        | CallError::Store(_)
        | CallError::Unavailable(_) => {
            WireError::temporary("plugin_unavailable", "the plugin is not available")
        }
        CallError::Host(_) => WireError::new("internal", "the server failed"),
    }
}
