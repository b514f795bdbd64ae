//! What a handler knows and may do beside its arguments.
use std::cell::OnceCell;

use crate::host::connection;
use crate::{Connection, Error, Placeholder, Rejection, User};

/// The event under way: who sent it, and what can be done about it.
///
/// Everything that sends, joins or leaves is an effect: the host performs it, in order, after the
/// handler returned `Ok`, and before the ack. Connections end behind the ack. Only
/// [`Context::ask`] and [`Context::http`] act at once.
#[derive(Debug)]
pub struct Context {
    /// What the host was asked of the connection; it tells nothing by itself.
    connection: OnceCell<Connection>,
    user: OnceCell<Option<User>>,
    event: String,
    attachments: Vec<Vec<u8>>,
}

impl Context {
    pub(crate) fn new(event: String, attachments: Vec<Vec<u8>>) -> Self {
        Self {
            connection: OnceCell::new(),
            user: OnceCell::new(),
            event,
            attachments,
        }
    }

    pub(crate) fn of_hook(event: &str) -> Self {
        Self::new(event.to_owned(), Vec::new())
    }

    /// For a connection that is known, and not the host's to tell.
    #[cfg(test)]
    pub(crate) fn of_user(user: Option<User>) -> Self {
        let cx = Self::new(String::new(), Vec::new());
        cx.user.set(user).expect("it is new");
        cx
    }

    /// The event's name, of use to a handler of `*`. In connection hooks it is `connect` or
    /// `disconnect`.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The connection that sent the event. The host is asked for all of it, once; who wants the
    /// [`user`](Self::user) only, or the [`id`](Self::id), saves the rest.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        self.connection.get_or_init(|| Connection {
            id: told(connection::id()),
            namespace: told(connection::namespace()),
            address: told(connection::address()),
            user: self.told_user().clone(),
            recovered: told(connection::recovered()),
        })
    }

    /// The public id of the connection that sent the event: the client's `socket.id`.
    #[must_use]
    pub fn id(&self) -> String {
        match self.connection.get() {
            Some(connection) => connection.id.clone(),
            None => told(connection::id()),
        }
    }

    /// The user who sent the event; `unauthorized` if the connection is anonymous, which only
    /// happens to events declared with [`anyone`](crate::Event::anyone).
    pub fn user(&self) -> Result<&User, Rejection> {
        let anonymous = || Rejection::new("unauthorized", "Log in first");
        self.told_user().as_ref().ok_or_else(anonymous)
    }

    fn told_user(&self) -> &Option<User> {
        self.user.get_or_init(|| told(connection::user()))
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

fn told<T>(answer: Result<T, Error>) -> T {
    answer.expect("handlers and hooks are called for a connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_anonymous_has_to_log_in() {
        let user = User {
            id: "7".to_owned(),
            username: None,
            roles: Vec::new(),
        };
        assert_eq!(Context::of_user(Some(user)).user().unwrap().id, "7");
        let rejection = Context::of_user(None).user().unwrap_err();
        assert_eq!(rejection.code, "unauthorized");
    }
}
