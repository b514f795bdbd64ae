//! What one client sends to one namespace, on its way to the dispatcher.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    connection::{Connection, lane::Arrival},
    dispatch::Dispatcher,
    error::WireError,
    message::{Arguments, InvalidArguments, InvalidMessage, Message, split_event},
    telemetry::Span,
    transport::{EndReason, Malformed, Receiver},
};

/// One connection's events.
pub(super) struct Events {
    pub dispatcher: Arc<Dispatcher>,
    pub connection: Arc<Connection>,
}

impl Receiver for Events {
    fn id(&self) -> &str {
        &self.connection.id
    }

    fn event(
        &self,
        array: &str,
        attachments: Vec<Bytes>,
        ack: Option<i64>,
    ) -> Result<(), Malformed> {
        let (event, arguments) = match split_event(array) {
            Ok(split) => split,
            Err(InvalidArguments::Json(_)) => return Err(Malformed),
            Err(error @ (InvalidArguments::Nesting(_) | InvalidArguments::Surrogate)) => {
                self.refuse(ack, &error.to_string());
                return Ok(());
            }
        };
        let message = match Message::new(arguments, attachments) {
            Ok(message) => message,
            Err(error) => {
                self.refuse(ack, &error.to_string());
                return Ok(());
            }
        };
        let watch = &self.dispatcher.watch;
        watch.received(&self.connection, &event, &message);
        let tracer = self.dispatcher.broadcast.tracer();
        let arrival = Arrival::Event {
            span: Span::of_event(tracer, &self.connection, &event),
            event: event.into(),
            message,
            ack,
        };
        self.dispatcher.arrive(&self.connection, arrival);
        Ok(())
    }

    fn oversized(&self, _: &str, ack: Option<i64>) -> Result<(), Malformed> {
        self.refuse(ack, "the event has more attachments than the server takes");
        Ok(())
    }

    fn acked(
        &self,
        id: Option<i64>,
        array: &str,
        attachments: Vec<Bytes>,
    ) -> Result<(), Malformed> {
        let arguments = match Arguments::parse(array.to_owned()) {
            Err(InvalidArguments::Json(_)) => return Err(Malformed),
            arguments => arguments,
        };
        let message = arguments
            .map_err(InvalidMessage::from)
            .and_then(|arguments| Message::new(arguments, attachments));
        let (Some(id), Ok(message)) = (id, message) else {
            return Ok(());
        };
        let connection = &self.connection;
        connection.adapter().answered(connection.key, id, message);
        Ok(())
    }

    fn ended(&self, reason: EndReason) {
        if self.connection.end(reason.may_come_back()) {
            let watch = &self.dispatcher.watch;
            watch.ended(&self.connection, reason.text());
            self.dispatcher.farewell(&self.connection, reason.text());
        }
    }
}

impl Events {
    fn refuse(&self, ack: Option<i64>, reason: &str) {
        let error = WireError::new("invalid_payload", reason.to_owned());
        self.dispatcher.refuse_packet(&self.connection, ack, error);
    }
}
