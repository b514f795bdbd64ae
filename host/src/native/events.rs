//! The events that the host itself answers, as it does at the plugins' endpoint, unless the embedder has
//! handlers for them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use socketioxide::{
    SendError,
    adapter::LocalAdapter,
    extract::{AckSender, TryData},
    handler::{FromMessageParts, MessageHandler},
    socket::Socket,
};
use socketioxide_core::{Str, Value};

use super::{Host, client::Connection};
use crate::{
    auth::TokenError,
    dispatch::host_events::{
        AUTHENTICATE, AUTHENTICATED, Authenticated, SUBSCRIBE, TAKES_A_TOKEN, UNSUBSCRIBE,
        check_subscriber,
    },
    error::{ERROR_EVENT, Envelope, WireError},
    namespace::MAIN_NAMESPACE,
    reserved::PAYMENTS_ROOM,
    user::User,
};

/// Marks the host's handlers among socketioxide's.
enum ByHost {}

/// A handler. It is called where the event is read, so the order of its events is kept.
struct HostEvent {
    kind: Kind,
    host: Arc<Host>,
}

#[derive(Clone, Copy)]
enum Kind {
    Authenticate,
    Subscribe,
    Unsubscribe,
}

/// Has the host answer its events on a socket.
pub(super) fn register(socket: &Socket, host: &Arc<Host>) {
    let on = |event, kind| {
        let host = host.clone();
        socket.on(event, HostEvent { kind, host });
    };
    on(AUTHENTICATE, Kind::Authenticate);
    if socket.ns() == MAIN_NAMESPACE {
        on(SUBSCRIBE, Kind::Subscribe);
        on(UNSUBSCRIBE, Kind::Unsubscribe);
    }
}

/// Tells a client who it is, if it is somebody.
pub(super) fn tell_authenticated(socket: &Socket) {
    if let Some(user) = socket.extensions.get::<User>() {
        emit(socket, AUTHENTICATED, &Authenticated::yes(&user));
    }
}

impl MessageHandler<LocalAdapter, ByHost> for HostEvent {
    fn call(&self, socket: Arc<Socket>, arguments: Value, ack: Option<i64>) {
        match self.kind {
            Kind::Authenticate => self.authenticate(&socket, arguments, ack),
            Kind::Subscribe => answer(&socket, ack, self.subscribe(&socket)),
            Kind::Unsubscribe => {
                socket.leave(PAYMENTS_ROOM);
                answer(&socket, ack, Ok(()));
            }
        }
    }
}

impl HostEvent {
    /// Makes the connection the user's whose token is given. A refused token changes nothing.
    fn authenticate(&self, socket: &Arc<Socket>, arguments: Value, ack: Option<i64>) {
        match self.verified(socket, arguments) {
            Ok((user, connection)) => {
                let settings = self.host.settings.load();
                let may_subscribe = settings.payments.admits(true, &user.roles);
                connection.authenticate(socket, user.clone(), &self.host);
                if !may_subscribe {
                    // A subscription does not outlive the right to it.
                    socket.leave(PAYMENTS_ROOM);
                }
                if !socket.connected() {
                    // Nobody else would take it out of the rooms.
                    socket.leave_all();
                }
                let authenticated = Authenticated::yes(&user);
                emit(socket, AUTHENTICATED, &authenticated);
                acknowledge(socket, ack, &authenticated);
            }
            Err(error) => {
                emit(socket, AUTHENTICATED, &Authenticated::no(&error));
                acknowledge(socket, ack, &Envelope { error: &error });
            }
        }
    }

    fn verified(
        &self,
        socket: &Arc<Socket>,
        mut arguments: Value,
    ) -> Result<(User, Arc<Connection>), WireError> {
        let Ok(TryData(token)) =
            TryData::<String>::from_message_parts(socket, &mut arguments, &None);
        let token = token.map_err(|_| WireError::new("invalid_payload", TAKES_A_TOKEN))?;
        let settings = self.host.settings.load();
        let nobody = || WireError::new("unknown_event", "tokens are not checked here");
        let verifier = settings.verifier.as_ref().ok_or_else(nobody)?;
        let connection = Connection::of(socket).ok_or_else(nobody)?;
        // It is not waited for here: nobody would know what the client sends meanwhile.
        let verified = match verifier.wait_for_key(&token) {
            Some(_) => Err(TokenError::Unknown),
            None => verifier.verify(&token),
        };
        let user = verified.map_err(|error| {
            tracing::debug!("authentication of a native connection refused: {error}");
            error.to_wire()
        })?;
        Ok((user, connection))
    }

    fn subscribe(&self, socket: &Socket) -> Result<(), WireError> {
        let user = socket.extensions.get::<User>();
        check_subscriber(&self.host.settings.load(), user.as_ref())?;
        socket.join(PAYMENTS_ROOM);
        Ok(())
    }
}

/// Answers an event: by its ack, or where none is asked for by an event of its own if it failed.
fn answer(socket: &Arc<Socket>, ack: Option<i64>, result: Result<(), WireError>) {
    match result {
        Ok(()) => acknowledge(socket, ack, &json!({ "success": true })),
        Err(error) if ack.is_none() => emit(socket, ERROR_EVENT, &Envelope { error: &error }),
        Err(error) => acknowledge(socket, ack, &Envelope { error: &error }),
    }
}

/// Sends an ack, if one is asked for.
fn acknowledge(socket: &Arc<Socket>, ack: Option<i64>, data: &impl Serialize) {
    let mut nothing = Value::Str(Str::default(), None);
    let Ok(sender) = AckSender::from_message_parts(socket, &mut nothing, &ack);
    tell(sender.send(data));
}

fn emit(socket: &Socket, event: &str, data: &impl Serialize) {
    tell(socket.emit(event, data));
}

/// A client that is gone or takes nothing more is not told.
fn tell(sent: Result<(), SendError>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "a native connection is not told");
    }
}
