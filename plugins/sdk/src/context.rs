//! What a handler knows and may do beside its arguments.
use crate::{Connection, Placeholder, Rejection, User};

/// The event under way: who sent it, and what can be done about it.
///
/// Everything that sends, joins or leaves is an effect: the host performs it, in order, after the
/// handler returned `Ok`, and before the ack. Connections end behind the ack. Only
/// [`Context::ask`] acts at once.
#[derive(Debug)]
pub struct Context {
    connection: Connection,
    event: String,
    attachments: Vec<Vec<u8>>,
}

impl Context {
    pub(crate) fn new(connection: Connection, event: String, attachments: Vec<Vec<u8>>) -> Self {
        Self {
            connection,
            event,
            attachments,
        }
    }

    pub(crate) fn of_hook(connection: Connection, event: &str) -> Self {
        Self::new(connection, event.to_owned(), Vec::new())
    }

    /// The event's name, of use to a handler of `*`. In connection hooks it is `connect` or
    /// `disconnect`.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The connection that sent the event.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The user who sent the event; `unauthorized` if the connection is anonymous, which only
    /// happens to events declared with [`anyone`](crate::Event::anyone).
    pub fn user(&self) -> Result<&User, Rejection> {
        self.connection
            .user
            .as_ref()
            .ok_or_else(|| Rejection::new("unauthorized", "Log in first"))
    }

    /// The binary attachments of the event. Empty in a handler that takes the
    /// [`Message`](crate::Message), since it owns them.
    #[must_use]
    pub fn attachments(&self) -> &[Vec<u8>] {
        &self.attachments
    }

    /// The bytes for which a placeholder stands.
    pub fn attachment(&self, placeholder: Placeholder) -> Result<&[u8], Rejection> {
        match self.attachments.get(placeholder.0 as usize) {
            Some(bytes) => Ok(bytes),
            None => Err(Rejection::invalid_payload("A binary attachment is missing")),
        }
    }
}
