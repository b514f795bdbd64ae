//! The four broadcast primitives, once for plugins, backends and Rust alike.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Broadcast, Delivery, EVERY_NAMESPACE};
use crate::{
    clock,
    cluster::Change,
    message::{Arguments, Message},
    namespace::MAIN_NAMESPACE,
    reserved::PAYMENTS_ROOM,
    transport::{Adapter, Selection},
    user::{UserId, role_room},
};

/// The event that tells of a payment.
pub(crate) const PAYMENT_UPDATE: &str = "payment_update";

/// The event that tells a user something.
pub(crate) const NOTIFICATION: &str = "notification";

/// The fields of a notification: a JSON object, values as they were written.
#[derive(Debug, Clone, Serialize)]
pub struct Notification(IndexMap<String, Box<RawValue>>);

impl Notification {
    /// From the JSON text of an object.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self)
    }
}

impl Broadcast {
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
            r#type: PAYMENT_UPDATE,
            data,
            timestamp: timestamp(),
        };
        self.push(PAYMENTS_ROOM.to_owned(), PAYMENT_UPDATE, &update)
    }

    /// Emits `notification` with its fields and a timestamp to room `user:ID`.
    pub fn send_user_notification(&self, user: &UserId, notification: Notification) -> Delivery {
        let Notification(mut fields) = notification;
        // As in `{ ...notification, timestamp }`: the server's clock wins.
        fields.insert("timestamp".to_owned(), raw(&timestamp()));
        self.push(user.room(), NOTIFICATION, &fields)
    }

    /// Emits `event` with `data` as its argument to room `role:ROLE`.
    pub fn broadcast_to_role(&self, role: &str, event: &str, data: &RawValue) -> Delivery {
        self.push(role_room(role), event, data)
    }

    /// Ends all connections of a user, to whatever namespace, and to `close` them the transports of
    /// its clients, too. Those that dropped are not given back to it any more. Returns how many it
    /// ended here.
    pub fn disconnect_user(&self, user: &UserId, close: bool) -> usize {
        let ended = self.disconnect_here(user, close);
        if let Some(cluster) = &self.cluster {
            let (room, change) = (Selection::room(user.room()), Change::Disconnect { close });
            // Node's servers know their namespaces by their names.
            for adapter in self.namespaces.all() {
                cluster.send(adapter.namespace(), room.clone(), change.clone(), |_, _| {});
            }
            cluster.send(EVERY_NAMESPACE, room, change, |_, _| {});
        }
        ended
    }

    /// As [`Self::disconnect_user`], on this server.
    pub(super) fn disconnect_here(&self, user: &UserId, close: bool) -> usize {
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

    fn push<T: Serialize + ?Sized>(&self, room: String, event: &str, argument: &T) -> Delivery {
        let native = self.native.push(&room, event, argument);
        let message = Message::text(Arguments::from_serialized(&[argument]));
        let plugins = self.emit(
            None,
            MAIN_NAMESPACE,
            Selection::room(room),
            event,
            message,
            false,
        );
        [plugins, native].into_iter().sum()
    }
}

fn raw(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("text always serialises")
}

/// Now, as JavaScript's `toISOString` writes it.
fn timestamp() -> String {
    humantime::format_rfc3339_millis(clock::system()).to_string()
}
