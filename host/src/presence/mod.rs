//! Who is present in rooms: each user once, with the number of its connections and some data.
//!
//! A connection that drops is away for as long as its client may come back: a page that is loaded again
//! leaves nobody. Who came and went is told to the room, some at once.

mod table;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::table::{Change, Place, Table};
pub(crate) use self::table::{Full, Who};
use crate::{
    config,
    message::{Arguments, Message},
    ordered_lock::{OrderedMutex, rank},
    transport::Selection,
};

/// The event that tells a room who came and went.
pub(crate) const EVENT: &str = "presence";

/// Somebody who is present in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user, or the connection of somebody anonymous.
    pub who: Who,
    /// How many connections it has; 0 while it is away.
    pub connections: u32,
    /// What its plugin says of it, as JSON text.
    pub data: Arc<str>,
}

/// Who is present in the rooms of all namespaces.
pub struct Presence {
    bounds: config::Presence,
    table: OrderedMutex<{ rank::PRESENCE }, Table>,
    /// Something is to be told, or to be waited for.
    changed: Notify,
}

impl Presence {
    /// Nobody yet. A connection that dropped is away for as long as it may come back, if nothing else is
    /// configured.
    pub fn new(bounds: config::Presence, recovery: &config::Recovery) -> Self {
        let window = match recovery.enabled {
            true => recovery.max_age,
            false => Duration::ZERO,
        };
        let grace = bounds.grace.unwrap_or(window);
        Self {
            table: OrderedMutex::new(Table::new(&bounds, grace)),
            bounds,
            changed: Notify::new(),
        }
    }

    /// The connection with this id is present in a room, or is with other data.
    pub fn enter(
        &self,
        (namespace, room): (&str, &str),
        connection: &str,
        who: Who,
        data: Arc<str>,
    ) -> Result<(), Full> {
        let place = Place::new(namespace, room);
        let entered = self.table.lock().enter(place, connection, who, data);
        self.changed.notify_one();
        entered
    }

    /// Whether one more could be present in a room, as far as is known now.
    pub fn has_place(&self, (namespace, room): (&str, &str), who: &Who) -> Result<(), Full> {
        self.table
            .lock()
            .has_place(&Place::new(namespace, room), who)
    }

    /// It is not present in these rooms any more.
    pub fn leave(&self, namespace: &str, rooms: &[String], connection: &str) {
        let mut table = self.table.lock();
        for room in rooms {
            table.leave(&Place::new(namespace, room), connection);
        }
        drop(table);
        self.changed.notify_one();
    }

    /// It has dropped, and may come back.
    pub fn drop_out(&self, namespace: &str, rooms: &[String], connection: &str) {
        let now = Instant::now();
        let mut table = self.table.lock();
        for room in rooms {
            table.drop_out(&Place::new(namespace, room), connection, now);
        }
        drop(table);
        self.changed.notify_one();
    }

    /// It is back; whether it was present in one of these rooms.
    pub fn come_back(&self, namespace: &str, rooms: &[String], connection: &str) -> bool {
        let mut table = self.table.lock();
        let mut is_present = false;
        for room in rooms {
            is_present |= table.come_back(&Place::new(namespace, room), connection);
        }
        drop(table);
        self.changed.notify_one();
        is_present
    }

    /// It belongs to somebody else from now on.
    pub fn identify(&self, namespace: &str, rooms: &[String], connection: &str, who: &Who) {
        let mut table = self.table.lock();
        for room in rooms {
            table.identify(&Place::new(namespace, room), connection, who);
        }
        drop(table);
        self.changed.notify_one();
    }

    /// Who is present in a room, by their names.
    pub fn members(&self, namespace: &str, room: &str) -> Vec<Member> {
        self.table.lock().members(&Place::new(namespace, room))
    }

    /// How many these are.
    pub fn count(&self, namespace: &str, room: &str) -> usize {
        self.table.lock().count(&Place::new(namespace, room))
    }

    /// Whether rooms are still to be told of somebody.
    pub(crate) fn has_news(&self) -> bool {
        self.table.lock().has_changes()
    }

    /// How much data there may be of one who is present.
    pub fn max_data(&self) -> usize {
        self.bounds.data.as_usize()
    }

    /// Has rooms told who came and went, until `stop`: `emit` gets the namespace, the room, an event and
    /// its arguments.
    pub async fn tell(
        &self,
        emit: impl Fn(&str, Selection, &str, Message),
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() {
            let expiry = self.table.lock().next_expiry();
            let expires = async {
                match expiry {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = expires => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = sleep(self.bounds.batch) => {}
                () = stop.cancelled() => return,
            }
            let changes = {
                let mut table = self.table.lock();
                table.expire(Instant::now());
                table.take_changes()
            };
            for (place, change) in changes {
                let room = Selection::room(place.room());
                let message = told(place.room(), &change);
                emit(place.namespace(), room, EVENT, message);
            }
        }
    }
}

/// One who is present, as clients are told.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    anonymous: bool,
    connections: u32,
    data: &'a RawValue,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn told(room: &str, change: &Change) -> Message {
    #[derive(Serialize)]
    struct Told<'a> {
        room: &'a str,
        joined: Vec<Shown<'a>>,
        left: Vec<Shown<'a>>,
        updated: Vec<Shown<'a>>,
    }
    let told = Told {
        room,
        joined: change.joined.iter().filter_map(shown).collect(),
        left: change.left.iter().filter_map(shown).collect(),
        updated: change.updated.iter().filter_map(shown).collect(),
    };
    Message::text(Arguments::from_serialized(&[&told]))
}

/// None for data that is no JSON, which nobody enters with.
fn shown(member: &Member) -> Option<Shown<'_>> {
    Some(Shown {
        id: member.who.id(),
        anonymous: member.who.is_anonymous(),
        connections: member.connections,
        data: serde_json::from_str(&member.data).ok()?,
    })
}
