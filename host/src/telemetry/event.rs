//! The span of an event: from when its packet was read until it is answered.

use std::sync::Arc;

use super::{Kind, Span, Tracer};
use crate::{connection::Connection, plugin::Firing, registry::Route, shorten::shortened};

/// How much of a name is shown that clients or plugins choose.
pub(super) const MAX_NAME_CHARS: usize = 128;

/// `messaging.system`, as OpenTelemetry's own instrumentation of Socket.IO says it.
const SOCKET_IO: &str = "socket.io";

impl Span {
    /// Begins that of an event which has just come.
    pub(crate) fn of_event(
        tracer: Option<&Arc<Tracer>>,
        connection: &Connection,
        event: &str,
    ) -> Self {
        let Some(tracer) = tracer else {
            return Self::NONE;
        };
        // Clients choose events' names, so that a span is called by one when a plugin has declared it.
        let span = tracer.begin(Kind::Consumer, "process", None);
        span.say(|it| {
            it.set("messaging.system", SOCKET_IO)
                .set("messaging.operation.name", "process")
                .set("messaging.operation.type", "process")
                .set(
                    "messaging.destination.name",
                    connection.namespace().to_owned(),
                )
                .set(
                    "messaging.socket.io.event_name",
                    shortened(event, MAX_NAME_CHARS),
                )
                .set("mixlab.socket.id", connection.id.clone())
                .link(connection.handshake_span());
        });
        span
    }

    /// Who is to handle the event.
    pub(crate) fn is_for(&self, route: &Route) {
        self.say(|it| {
            it.name(format!("process {}", route.contract.event))
                .set("mixlab.plugin.name", route.plugin.name().to_string());
        });
    }

    /// Begins that of a message on its way to clients.
    pub(crate) fn sends(parent: &super::Context, namespace: &str, event: &str) -> Self {
        let span = parent.child(Kind::Producer, || {
            format!("send {}", shortened(event, MAX_NAME_CHARS))
        });
        span.say(|it| {
            it.set("messaging.system", SOCKET_IO)
                .set("messaging.operation.name", "send")
                .set("messaging.operation.type", "send")
                .set("messaging.destination.name", namespace.to_owned())
                .set(
                    "messaging.socket.io.event_name",
                    shortened(event, MAX_NAME_CHARS),
                );
        });
        span
    }

    /// Begins that of a message which came by the stream of a cluster, from where `sender` says.
    pub(crate) fn delivers(
        tracer: Option<&Arc<Tracer>>,
        sender: Option<super::SpanContext>,
        namespace: &str,
        event: &str,
    ) -> Self {
        let (Some(tracer), Some(sender)) = (tracer, sender) else {
            return Self::NONE;
        };
        let name = format!("deliver {}", shortened(event, MAX_NAME_CHARS));
        let span = tracer.begin(Kind::Consumer, name, Some(sender));
        span.say(|it| {
            it.set("messaging.system", SOCKET_IO)
                .set("messaging.operation.name", "deliver")
                .set("messaging.operation.type", "process")
                .set("messaging.destination.name", namespace.to_owned())
                .set(
                    "messaging.socket.io.event_name",
                    shortened(event, MAX_NAME_CHARS),
                );
        });
        span
    }

    /// Begins that of a timer which is due.
    pub(crate) fn of_timer(tracer: Option<&Arc<Tracer>>, plugin: &str, timer: &Firing) -> Self {
        let Some(tracer) = tracer else {
            return Self::NONE;
        };
        let span = tracer.begin(Kind::Internal, format!("timer {plugin}"), None);
        span.say(|it| {
            it.set("mixlab.plugin.name", plugin.to_owned())
                .set("mixlab.timer.name", shortened(&timer.name, MAX_NAME_CHARS))
                .set("mixlab.timer.attempt", u64::from(timer.attempt));
        });
        span
    }

    /// Begins that of a client who comes or goes, which plugins are asked about or told of.
    pub(crate) fn of_connection(
        tracer: Option<&Arc<Tracer>>,
        connection: &Connection,
        what: &'static str,
    ) -> Self {
        let Some(tracer) = tracer else {
            return Self::NONE;
        };
        let span = tracer.begin(Kind::Server, what, None);
        span.say(|it| {
            it.set("messaging.system", SOCKET_IO)
                .set(
                    "messaging.destination.name",
                    connection.namespace().to_owned(),
                )
                .set("mixlab.socket.id", connection.id.clone())
                .link(connection.handshake_span());
        });
        span
    }

    /// Begins that of a commit.
    pub(crate) fn commits(&self) -> Self {
        self.child(Kind::Internal, || "commit")
    }

    /// How many clients of this server got it.
    pub(crate) fn reached(&self, clients: usize) {
        self.say(|it| {
            it.set("mixlab.delivered", clients);
        });
    }

    /// What its client is told instead of an answer, by a code.
    pub(crate) fn is_refused(&self, code: &str) {
        self.say(|it| {
            it.set("mixlab.outcome", shortened(code, MAX_NAME_CHARS));
        });
    }

    /// A plugin's failure, by a fixed word.
    pub(crate) fn has_failed(&self, reason: &'static str) {
        self.say(|it| {
            it.fail(reason);
        });
    }
}
