//! Who is present in rooms: each user once, with the number of its connections and some data.
//!
//! A connection that drops is away for as long as its client may come back: a page that is loaded again
//! leaves nobody. Who came and went is told to the room, some at once.
//!
//! On a server on its own what is said happens at once; in a cluster when it was read back ([`cluster`], [`shared`]).

mod before;
mod cluster;
mod place;
mod shared;
mod shown;
mod steps;
mod table;
mod who;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    place::Place,
    shared::{Answered, Shared, Side, entered},
    shown::told,
    steps::{Its, Step},
    table::{Entering, NOBODY, Table},
};
pub(crate) use self::{
    steps::News,
    table::{Full, Piece},
    who::Who,
};
use crate::{
    config,
    message::{AROUND_PRESENT, Message, check_inside},
    ordered_lock::{OrderedMutex, rank},
    rarely::Rarely,
    reserved::is_reserved,
    transport::Selection,
};

/// The event that tells a room who came and went.
pub(crate) const EVENT: &str = "presence";

/// A connection in a room, by the namespace and its public id.
pub(crate) struct Lost {
    pub namespace: String,
    pub connection: String,
}

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
    state: OrderedMutex<{ rank::PRESENCE }, State>,
    /// Something is to be told, to be said or to be waited for.
    changed: Notify,
    /// What was last answered to the question for another server's table.
    answered: watch::Sender<Option<Answered>>,
    /// Entries were missed, or others have missed this server's.
    interrupted: Notify,
    /// Whether it has been known who is present by other servers, or it was given up to ask.
    is_known: AtomicBool,
    complaints: Rarely,
}

struct State {
    side: Side,
    /// None on a server on its own.
    shared: Option<Shared>,
}

impl State {
    /// Who is present, as clients here see it.
    fn table(&self) -> &Table {
        let ahead = self.shared.as_ref().and_then(Shared::ahead);
        &ahead.unwrap_or(&self.side).table
    }
}

impl Presence {
    /// Nobody yet, on a server on its own or on the one of a cluster with this name. A connection that dropped is away
    /// for as long as it may come back, if nothing else is configured.
    pub(crate) fn new(
        bounds: config::Presence,
        recovery: &config::Recovery,
        server: Option<&str>,
    ) -> Self {
        let shared = server.map(|name| Shared::new(name, bounds.bytes.as_usize()));
        let window = match recovery.enabled {
            true => recovery.max_age,
            false => Duration::ZERO,
        };
        let grace = bounds.grace.unwrap_or(window);
        Self {
            state: OrderedMutex::new(State {
                side: Side::new(Table::new(&bounds, grace)),
                shared,
            }),
            bounds,
            changed: Notify::new(),
            answered: watch::Sender::new(None),
            interrupted: Notify::new(),
            is_known: server.is_none().into(),
            complaints: Rarely::default(),
        }
    }

    /// Who is present, for the process that follows, where nobody comes or goes any more.
    pub(crate) fn save(&self) -> Vec<Piece> {
        self.state.lock().side.table.pieces(Instant::now())
    }

    /// Goes on with who was present by then in the process before. Nobody is here yet.
    pub(crate) fn restore(&self, pieces: Vec<Piece>, then: Instant) {
        let mut state = self.state.lock();
        for piece in pieces {
            state.side.table.restore(piece, then);
        }
        drop(state);
        self.changed.notify_one();
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
        let mut state = self.state.lock();
        state.table().has_place(&place, &who)?;
        let State { side, shared } = &mut *state;
        match shared {
            Some(shared) => {
                let entered = entered(&place, connection, who, &data);
                shared.say(Step::Enter(vec![entered]));
            }
            None => side.table.enter(Entering {
                place: &place,
                connection,
                who: &who,
                data: &data,
                server: NOBODY,
            }),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether one more could be present in a room, as far as is known now.
    pub fn has_place(&self, (namespace, room): (&str, &str), who: &Who) -> Result<(), Full> {
        let place = Place::new(namespace, room);
        self.state.lock().table().has_place(&place, who)
    }

    /// It is not present in these rooms any more.
    pub fn leave(&self, namespace: &str, rooms: &[String], connection: &str) {
        self.change(namespace, rooms, connection, Step::Leave, |table, place| {
            table.leave(place, connection);
        });
    }

    /// It has dropped, and may come back.
    pub fn drop_out(&self, namespace: &str, rooms: &[String], connection: &str) {
        let (now, mark) = (Instant::now(), rand::random());
        let say = |its| Step::Drop(its, mark);
        self.change(namespace, rooms, connection, say, |table, place| {
            table.drop_out(place, connection, now, mark);
        });
    }

    /// It is back; whether it was present in one of these rooms.
    pub fn come_back(&self, namespace: &str, rooms: &[String], connection: &str) -> bool {
        let is_present = {
            let state = self.state.lock();
            let knows = |room| {
                let place = Place::new(namespace, room);
                state.table().knows(&place, connection)
            };
            state
                .shared
                .as_ref()
                .is_some_and(|it| it.may_know(connection))
                || rooms.iter().any(|room| knows(room))
        };
        if is_present {
            self.change(namespace, rooms, connection, Step::Back, |table, place| {
                table.come_back(place, connection);
            });
        }
        is_present
    }

    /// It belongs to somebody else from now on.
    pub fn identify(&self, namespace: &str, rooms: &[String], connection: &str, who: &Who) {
        let say = |its| Step::Become(its, who.clone());
        self.change(namespace, rooms, connection, say, |table, place| {
            table.identify(place, connection, who, NOBODY);
        });
    }

    /// Something becomes of a connection: in a cluster what is to be said, else what happens in each of the rooms.
    fn change(
        &self,
        namespace: &str,
        rooms: &[String],
        connection: &str,
        say: impl FnOnce(Its) -> Step,
        perform: impl Fn(&mut Table, &Place),
    ) {
        // In those of the host nobody is present.
        let mut rooms = rooms.iter().filter(|room| !is_reserved(room)).peekable();
        if rooms.peek().is_none() {
            return;
        }
        let mut state = self.state.lock();
        let State { side, shared } = &mut *state;
        match shared {
            Some(shared) => shared.say(say(Its {
                namespace: namespace.to_owned(),
                rooms: rooms.cloned().collect(),
                connection: connection.to_owned(),
            })),
            None => rooms.for_each(|room| perform(&mut side.table, &Place::new(namespace, room))),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Who is present in a room, by their names.
    pub fn members(&self, namespace: &str, room: &str) -> Vec<Member> {
        let place = Place::new(namespace, room);
        self.state.lock().table().members(&place)
    }

    /// How many these are.
    pub fn count(&self, namespace: &str, room: &str) -> usize {
        self.state
            .lock()
            .table()
            .count(&Place::new(namespace, room))
    }

    /// Whether rooms are still to be told of somebody.
    pub(crate) fn has_news(&self) -> bool {
        self.state.lock().side.table.has_changes()
    }

    /// How much data there may be of one who is present.
    pub fn max_data(&self) -> usize {
        self.bounds.data.as_usize()
    }

    /// Has rooms told who came and went on a server on its own, until `stop`: `emit` gets the namespace, the room, and
    /// the arguments of an [`EVENT`].
    pub(crate) async fn tell(
        &self,
        emit: impl Fn(&str, Selection, Message),
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() {
            let expiry = self.state.lock().side.table.next_expiry();
            tokio::select! {
                () = self.changed.notified() => {}
                () = until(expiry) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = sleep(self.bounds.batch) => {}
                () = stop.cancelled() => return,
            }
            let changes = {
                let table = &mut self.state.lock().side.table;
                table.expire(Instant::now());
                table.take_changes()
            };
            for (place, change) in changes {
                let room = Selection::room(place.room());
                emit(place.namespace(), room, told(place.room(), &change));
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether data of a user is JSON that all can read.
fn is_sound(data: &str) -> bool {
    check_inside(data, AROUND_PRESENT).is_ok() && serde_json::from_str::<&RawValue>(data).is_ok()
}
