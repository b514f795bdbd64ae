//! From what a handler returns to the ack.
use std::any::TypeId;

use schemars::JsonSchema;
use serde::Serialize;

pub use crate::bindings::exports::mixlab::plugin::events::Outcome;
use crate::{Message, Rejection, schema};

/// What a handler may return.
///
/// | value | ack |
/// |---|---|
/// | `()` | no arguments |
/// | any `Serialize + JsonSchema` | one argument |
/// | [`Message`] | several arguments, attachments |
/// | [`NoAck`] | none, even if the client asked for one |
/// | [`Outcome`] | any of these, decided by the handler |
pub trait Reply {
    /// The JSON Schema of the ack's argument array. None: any.
    #[must_use]
    fn schema() -> Option<String> {
        None
    }

    /// What the host is told.
    fn into_outcome(self) -> Result<Outcome, Rejection>;
}

/// Handled, and no ack is sent even if the client asked for one.
#[derive(Clone, Copy, Debug)]
pub struct NoAck;

impl<T: Serialize + JsonSchema + 'static> Reply for T {
    fn schema() -> Option<String> {
        schema::of_reply::<T>()
    }

    fn into_outcome(self) -> Result<Outcome, Rejection> {
        // `()` is Serialize too, so it cannot have an impl of its own; the compiler decides this.
        if TypeId::of::<T>() == TypeId::of::<()>() {
            return Ok(Outcome::Done);
        }
        Ok(Outcome::Reply(Message::of(&self)?))
    }
}

impl Reply for Message {
    fn into_outcome(self) -> Result<Outcome, Rejection> {
        Ok(Outcome::Reply(self))
    }
}

impl Reply for NoAck {
    fn into_outcome(self) -> Result<Outcome, Rejection> {
        Ok(Outcome::NoAck)
    }
}

impl Reply for Outcome {
    fn into_outcome(self) -> Result<Outcome, Rejection> {
        Ok(self)
    }
}
