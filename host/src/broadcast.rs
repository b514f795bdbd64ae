//! The four broadcast primitives, once for plugins, backends and Rust alike.

use std::{sync::Arc, time::SystemTime};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

pub use crate::transport::Delivery;
use crate::{
    connection::Connections,
    history::History,
    message::{Arguments, Message},
    namespace::MAIN_NAMESPACE,
    native,
    presence::Presence,
    transport::{Adapter, Namespaces, Selection},
    user::{UserId, role_room},
};

/// The room of clients that subscribed to payment updates.
pub const PAYMENTS_ROOM: &str = "payments";

/// Pushes to the clients of the main namespace, and to those of native endpoints' main namespaces.
#[derive(Clone)]
pub struct Broadcast {
    namespaces: Arc<Namespaces>,
    connections: Arc<Connections>,
    native: Arc<native::Clients>,
    history: Arc<History>,
}

/// The fields of a notification: a JSON object, values as they were written.
#[derive(Debug, Clone)]
pub struct Notification(IndexMap<String, Box<RawValue>>);

impl Notification {
    /// From the JSON text of an object.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self)
    }
}

impl Broadcast {
    /// Over the sockets of `namespaces`; `connections` counts them.
    pub(crate) fn new(
        namespaces: Arc<Namespaces>,
        connections: Arc<Connections>,
        history: Arc<History>,
    ) -> Self {
        Self {
            namespaces,
            connections,
            native: Arc::default(),
            history,
        }
    }

    /// Emits `payment_update` with `{"type":"payment_update","data":…,"timestamp":…}` to room
    /// `payments`.
    pub fn broadcast_payment_update(&self, data: &RawValue) -> Delivery {
        #[derive(Serialize)]
        struct PaymentUpdate<'a> {
            r#type: &'static str,
            data: &'a RawValue,
            timestamp: String,
        }
        let update = PaymentUpdate {
            r#type: "payment_update",
            data,
            timestamp: timestamp(),
        };
        self.push(PAYMENTS_ROOM.to_owned(), "payment_update", &update)
    }

    /// Emits `notification` with its fields and a timestamp to room `user:ID`.
    pub fn send_user_notification(&self, user: &UserId, notification: Notification) -> Delivery {
        let Notification(mut fields) = notification;
        // As in `{ ...notification, timestamp }`: the server's clock wins.
        fields.insert("timestamp".to_owned(), raw(&timestamp()));
        self.push(user.room(), "notification", &fields)
    }

    /// Emits `event` with `data` as its argument to room `role:ROLE`.
    pub fn broadcast_to_role(&self, role: &str, event: &str, data: &RawValue) -> Delivery {
        self.push(role_room(role), event, data)
    }

    /// Ends all connections of a user, to whatever namespace, and to `close` them the transports of
    /// its clients, too. Those that dropped are not given back to it any more. Returns how many it
    /// ended.
    pub fn disconnect_user(&self, user: &UserId, close: bool) -> usize {
        let room = Selection::room(user.room());
        let its = |adapter: Arc<Adapter>| {
            let clients = adapter.selected(&room);
            self.connections.of(&clients, adapter.namespace())
        };
        let its: Vec<_> = self.namespaces.all().into_iter().flat_map(its).collect();
        for connection in &its {
            self.connections.disconnect(connection, close);
        }
        // Behind that: one may have dropped meanwhile.
        self.namespaces.recovery().forget_user(user);
        its.len() + self.native.disconnect(&user.room(), close)
    }

    /// How many clients are connected.
    pub fn connected_clients_count(&self) -> usize {
        self.connections.clients() + self.native.count()
    }

    /// The clients of native endpoints.
    pub(crate) fn native(&self) -> &Arc<native::Clients> {
        &self.native
    }

    /// Events that were kept.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Who is present in rooms.
    pub(crate) fn presence(&self) -> &Presence {
        self.namespaces.presence()
    }

    /// Tells rooms who came and went, until `stop`.
    pub(crate) async fn tell_presence(&self, stop: &CancellationToken) {
        self.presence().tell(&self.namespaces, stop).await;
    }

    /// A namespace that is open.
    pub(crate) fn namespace(&self, path: &str) -> Option<Arc<Adapter>> {
        self.namespaces.get(path)
    }

    /// How many attachments an event may have.
    pub(crate) fn max_attachments(&self) -> usize {
        self.namespaces.sessions().policy.max_attachments
    }

    /// The live connections.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    fn push<T: Serialize + ?Sized>(&self, room: String, event: &str, argument: &T) -> Delivery {
        let native = self.native.push(&room, event, argument);
        let push = |adapter: Arc<Adapter>| {
            let message = Message::text(Arguments::from_serialized(&[argument]));
            adapter.broadcast(Selection::room(room), event, message, false)
        };
        let main = self.namespaces.get(MAIN_NAMESPACE);
        main.map(push).into_iter().chain([native]).sum()
    }
}

fn raw(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("text always serialises")
}

/// Now, as JavaScript's `toISOString` writes it.
fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
