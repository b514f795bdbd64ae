//! The events that the host itself answers: `authenticate` and the payment subscriptions.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Dispatcher,
    answer::{self, Answer},
};
use crate::{
    auth::Verifier,
    connection::Connection,
    error::WireError,
    message::{Arguments, Message},
    namespace::MAIN_NAMESPACE,
    reserved::PAYMENTS_ROOM,
    settings::Settings,
    transport::Part,
    user::User,
};

/// The event that makes a connection a user's. What came of it is told by `authenticated`.
pub(crate) const AUTHENTICATE: &str = "authenticate";

/// The event that tells what came of a token.
pub(crate) const AUTHENTICATED: &str = "authenticated";

/// The event by which a client gets payment updates from then on.
pub(crate) const SUBSCRIBE: &str = "subscribe:payments";

/// The event by which it gets no more of them.
pub(crate) const UNSUBSCRIBE: &str = "unsubscribe:payments";

/// What is said of other arguments.
pub(crate) const TAKES_A_TOKEN: &str = "authenticate takes one argument: the token";

/// The argument of [`AUTHENTICATED`].
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Authenticated<'a> {
    /// The connection is this user's.
    Yes { success: bool, user: &'a User },
    /// The token is refused.
    No { success: bool, error: &'a WireError },
}

impl<'a> Authenticated<'a> {
    pub(crate) fn yes(user: &'a User) -> Self {
        let success = true;
        Self::Yes { success, user }
    }

    pub(crate) fn no(error: &'a WireError) -> Self {
        let success = false;
        Self::No { success, error }
    }
}

impl Dispatcher {
    /// Answers an event of the host's; none if it is not one.
    pub(super) fn host_event(
        &self,
        answer: &Answer,
        message: &Message,
    ) -> Option<Result<Message, WireError>> {
        let Answer {
            connection, event, ..
        } = answer;
        match &**event {
            AUTHENTICATE => {
                let settings = self.settings.load();
                let verifier = settings.verifier.as_ref()?;
                Some(self.authenticate(connection, message, verifier))
            }
            SUBSCRIBE if connection.namespace() == MAIN_NAMESPACE => {
                Some(self.subscribe_to_payments(connection))
            }
            UNSUBSCRIBE if connection.namespace() == MAIN_NAMESPACE => {
                connection.leave(vec![PAYMENTS_ROOM.to_owned()]);
                Some(Ok(answer::success()))
            }
            _ => None,
        }
    }

    /// What to wait for before an event of the host's can be answered; none if there is nothing.
    pub(super) fn wait_for_key(
        &self,
        answer: &Answer,
        message: &Message,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        if &*answer.event != AUTHENTICATE {
            return None;
        }
        let settings = self.settings.load();
        settings
            .verifier
            .as_ref()?
            .wait_for_key(&token(message).ok()?)
    }

    /// Makes the connection the user's whose token is given. A refused token changes nothing.
    fn authenticate(
        &self,
        connection: &Arc<Connection>,
        message: &Message,
        verifier: &Verifier,
    ) -> Result<Message, WireError> {
        let verified = token(message).and_then(|token| {
            let is_granted = |claim: &str| self.registry.load().may_read(Part::Claim(claim));
            let user = verifier.verify_for_plugins(&token, &is_granted);
            user.map_err(|error| {
                tracing::debug!(socket = connection.id, "authentication refused: {error}");
                error.to_wire()
            })
        });
        // Rooms are told of another user, on all servers.
        let verified = verified.and_then(|user| match connection.is_present() {
            true => self.check_room().map(|()| user),
            false => Ok(user),
        });
        match verified {
            Ok(user) => {
                let may_subscribe = self.settings.load().payments.admits(true, &user.roles);
                connection.authenticate(user);
                self.follow_expiry(connection);
                if !may_subscribe {
                    // A subscription does not outlive the right to it.
                    connection.leave(vec![PAYMENTS_ROOM.to_owned()]);
                }
                Ok(tell_authenticated(connection))
            }
            Err(error) => {
                let refused = Arguments::from_serialized(&[&Authenticated::no(&error)]);
                connection.emit(AUTHENTICATED, Message::text(refused), false);
                Err(error)
            }
        }
    }

    /// Refuses what could not be sent to other servers.
    fn check_room(&self) -> Result<(), WireError> {
        let room = self.broadcast.check_room();
        room.map_err(|full| WireError::temporary("cluster_unavailable", full.to_string()))
    }

    fn subscribe_to_payments(&self, connection: &Arc<Connection>) -> Result<Message, WireError> {
        let identity = connection.identity();
        check_subscriber(&self.settings.load(), identity.user.as_ref())?;
        connection.join(vec![PAYMENTS_ROOM.to_owned()]);
        Ok(answer::success())
    }
}

/// Whether a user, or nobody in particular, may subscribe to payments.
pub(crate) fn check_subscriber(settings: &Settings, user: Option<&User>) -> Result<(), WireError> {
    let roles = user.map(|user| user.roles.as_slice()).unwrap_or_default();
    if settings.payments.admits(user.is_some(), roles) {
        return Ok(());
    }
    Err(match user {
        None => WireError::new("unauthorized", "payments need an authenticated user"),
        Some(_) => WireError::new("permission_denied", "your roles do not allow payments"),
    })
}

/// Emits `authenticated` to a connection that is a user's; returns what it said.
pub(crate) fn tell_authenticated(connection: &Connection) -> Message {
    let identity = connection.identity();
    let user = identity
        .user
        .as_ref()
        .expect("the caller has authenticated the connection");
    let accepted = Authenticated::yes(user);
    let message = Message::text(Arguments::from_serialized(&[&accepted]));
    connection.emit(AUTHENTICATED, message.clone(), false);
    message
}

fn token(message: &Message) -> Result<String, WireError> {
    let arguments = message.arguments.as_str();
    match serde_json::from_str::<Vec<serde_json::Value>>(arguments)
        .ok()
        .as_deref()
    {
        Some([serde_json::Value::String(token)]) => Ok(token.clone()),
        _ => Err(WireError::new("invalid_payload", TAKES_A_TOKEN)),
    }
}
