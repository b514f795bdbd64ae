//! What a plugin's call would change, recorded while it runs and performed only if it succeeded.

use std::{borrow::Cow, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    broadcast::{Broadcast, Notification},
    cluster::Change,
    connection::Connection,
    message::{Arguments, Message},
    selected::Selected,
    user::UserId,
};

/// One recorded change.
#[derive(Debug, Clone)]
pub enum Effect {
    /// `broadcast_payment_update`.
    PaymentUpdate {
        /// The payment.
        data: Box<RawValue>,
    },
    /// `send_user_notification`.
    Notify {
        /// Who gets it.
        user: UserId,
        /// What it says.
        notification: Notification,
    },
    /// `broadcast_to_role`.
    ToRole {
        /// Users of this role get it.
        role: String,
        /// The event's name.
        event: String,
        /// Its only argument.
        data: Box<RawValue>,
    },
    /// An event to the connection itself.
    Emit {
        /// The event's name.
        event: String,
        /// Its arguments.
        message: Message,
        /// May be dropped when the client is not ready.
        volatile: bool,
        /// The topic of the history that it is kept in.
        keep: Option<String>,
    },
    /// An event to sockets of a namespace.
    EmitTo {
        /// Which ones.
        sockets: Selected,
        /// The event's name.
        event: String,
        /// Its arguments.
        message: Message,
        /// May be dropped for clients that are not ready.
        volatile: bool,
        /// The topic of the history that it is kept in.
        keep: Option<String>,
    },
    /// The connection joins a room.
    Join {
        /// The room's name.
        room: String,
    },
    /// The connection leaves a room.
    Leave {
        /// The room's name.
        room: String,
    },
    /// The connection joins a room and is present there.
    Enter {
        /// The room's name.
        room: String,
        /// What is said of its user, as JSON text.
        data: Arc<str>,
    },
    /// Sockets join a room.
    JoinSockets {
        /// Which ones.
        sockets: Selected,
        /// The room's name.
        room: String,
    },
    /// Sockets leave a room.
    LeaveSockets {
        /// Which ones.
        sockets: Selected,
        /// The room's name.
        room: String,
    },
    /// A plugin keeps something with the connection.
    SetData {
        /// The plugin's name.
        plugin: Arc<str>,
        /// JSON text.
        json: Arc<str>,
    },
    /// Connections end.
    Disconnect {
        /// Which ones; the connection itself if there is none.
        sockets: Option<Selected>,
        /// The clients' transports end as well.
        close: bool,
    },
}

impl Effect {
    /// The event that it emits under a name of the plugin's choice, with its arguments.
    pub fn emitted(&self) -> Option<(&str, Cow<'_, Arguments>)> {
        match self {
            Self::ToRole { event, data, .. } => {
                Some((event, Cow::Owned(Arguments::from_serialized(&[data]))))
            }
            Self::Emit { event, message, .. } | Self::EmitTo { event, message, .. } => {
                Some((event, Cow::Borrowed(&message.arguments)))
            }
            _ => None,
        }
    }

    /// Whether a later call may see by its reads that it was performed.
    pub(crate) fn is_seen(&self) -> bool {
        matches!(
            self,
            Self::Join { .. }
                | Self::Leave { .. }
                | Self::Enter { .. }
                | Self::JoinSockets { .. }
                | Self::LeaveSockets { .. }
                | Self::SetData { .. }
                | Self::Disconnect { .. }
        )
    }

    /// Whether it is for the connection itself, and no other.
    pub fn is_for_connection(&self) -> bool {
        matches!(
            self,
            Self::Emit { .. }
                | Self::Join { .. }
                | Self::Leave { .. }
                | Self::Enter { .. }
                | Self::SetData { .. }
                | Self::Disconnect { sockets: None, .. }
        )
    }

    /// Whether other servers of a cluster have to hear of it.
    pub fn goes_to_others(&self) -> bool {
        let is_shared = matches!(self, Self::Enter { .. } | Self::Emit { keep: Some(_), .. });
        !self.is_for_connection() || is_shared
    }
}

/// Performs the effects of a call in the order they were recorded, those for itself on the `connection`
/// that it is for, and then `answer`s. Connections end behind that, so that their clients get all of it.
pub(crate) fn commit(
    effects: Vec<Effect>,
    connection: Option<&Connection>,
    broadcast: &Broadcast,
    answer: impl FnOnce(),
) {
    let mut disconnects = Vec::new();
    for effect in effects {
        match effect {
            Effect::Disconnect { sockets, close } => disconnects.push((sockets, close)),
            effect => perform(effect, connection, broadcast),
        }
    }
    answer();
    for (sockets, close) in disconnects {
        let connections = broadcast.connections();
        match (sockets, connection) {
            (Some(sockets), _) => {
                sockets.change(connection, broadcast, Change::Disconnect { close });
            }
            (None, Some(connection)) => connections.disconnect(connection, close),
            (None, None) => {}
        }
    }
}

fn perform(effect: Effect, connection: Option<&Connection>, broadcast: &Broadcast) {
    match effect {
        Effect::PaymentUpdate { data } => {
            broadcast.broadcast_payment_update(&data);
        }
        Effect::Notify { user, notification } => {
            broadcast.send_user_notification(&user, notification);
        }
        Effect::ToRole { role, event, data } => {
            broadcast.broadcast_to_role(&role, &event, &data);
        }
        Effect::EmitTo {
            sockets,
            event,
            message,
            volatile,
            keep,
        } => {
            if let Some(topic) = keep {
                broadcast.keep(&topic, &event, &message);
            }
            sockets.emit(connection, broadcast, &event, message, volatile);
        }
        Effect::JoinSockets { sockets, room } => {
            sockets.change(connection, broadcast, Change::Join(vec![room]));
        }
        Effect::LeaveSockets { sockets, room } => {
            sockets.change(connection, broadcast, Change::Leave(vec![room]));
        }
        effect => {
            // What is for a connection is recorded by calls for one only.
            if let Some(connection) = connection {
                perform_for(effect, connection, broadcast);
            }
        }
    }
}

/// Performs what is for the connection itself.
fn perform_for(effect: Effect, connection: &Connection, broadcast: &Broadcast) {
    match effect {
        Effect::Emit {
            event,
            message,
            volatile,
            keep,
        } => {
            if let Some(topic) = keep {
                broadcast.keep(&topic, &event, &message);
            }
            let _span = broadcast.sends(connection.namespace(), &event);
            connection.emit(&event, message, volatile);
        }
        Effect::Join { room } => {
            // Other calls have joined rooms since the plugin asked.
            if let Err(too_many) = connection.join_one_more(room.clone()) {
                tracing::warn!(
                    socket = connection.id,
                    room,
                    "stays out of a room: {too_many}"
                );
            }
        }
        Effect::Leave { room } => connection.leave(vec![room]),
        Effect::Enter { room, data } => {
            // There was a place for it when the plugin asked.
            if let Err(reason) = connection.enter_room(&room, data) {
                tracing::warn!(
                    socket = connection.id,
                    room,
                    "is not present in a room: {reason}"
                );
            }
        }
        Effect::SetData { plugin, json } => connection.keep(&plugin, json),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_to_hear_of_is_held_to_the_bound_of_what_waits_for_them() {
        let emit = |keep: Option<&str>| Effect::Emit {
            event: "e".to_owned(),
            message: Message::none(),
            volatile: false,
            keep: keep.map(str::to_owned),
        };
        let room = || "r".to_owned();
        let enter = Effect::Enter {
            room: room(),
            data: "1".into(),
        };
        assert!(enter.goes_to_others() && emit(Some("topic")).goes_to_others());
        assert!(!emit(None).goes_to_others() && !Effect::Leave { room: room() }.goes_to_others());
    }
}
