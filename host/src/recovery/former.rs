//! What is kept of a connection that dropped.

use std::sync::{Arc, Weak};

use super::{
    Log, Place, Stream, Visit,
    log::{Awaited, SharedLog},
    place::Offset,
    stream::State,
};
use crate::{
    address::ClientAddress,
    connection::data::Data,
    reserved::PAYMENTS_ROOM,
    settings::Settings,
    transport::{Selection, SocketKey},
    user::{User, UserId},
};

/// A connection that dropped and may come back.
#[derive(Debug, Clone)]
pub struct Former {
    /// The private id that its client identifies itself with.
    pub pid: String,
    /// The public id.
    pub id: String,
    /// What broadcasts that leave it out know it by.
    pub key: SocketKey,
    /// The client's address.
    pub address: ClientAddress,
    /// What it alone was sent.
    pub stream: Arc<Stream>,
    /// The rooms it was in.
    pub rooms: Vec<String>,
    /// What plugins kept with it.
    pub data: Arc<Data>,
    /// Whose it was.
    pub user: Option<User>,
    /// Which one this was of the times that its client had it.
    pub(crate) visit: Visit,
}

/// A [`Former`] that waits for its client.
pub(crate) struct Waiting {
    /// The connection.
    pub former: Former,
    /// Where it stood when it dropped.
    pub dropped: Place,
    /// What its namespace sent; gone with the namespace.
    pub log: Weak<SharedLog>,
    /// Has the log keep events for it.
    pub awaited: Awaited,
}

impl Former {
    /// The id of the user whose it was.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref().map(|user| &user.id)
    }

    /// What its rooms and data take, in bytes.
    pub fn size(&self) -> usize {
        let rooms = self.rooms.iter();
        let rooms: usize = rooms.map(|room| room.len() + size_of::<String>()).sum();
        rooms + self.data.size()
    }

    /// Leaves it only the rooms that it would be let into now.
    pub fn retain_rooms(&mut self, user: Option<&User>, settings: &Settings) {
        let own = user.map(User::rooms).unwrap_or_default();
        let roles = user.map(|user| user.roles.as_slice()).unwrap_or_default();
        let payments = settings.payments.admits(user.is_some(), roles);
        let allowed = |room: &str| match room {
            PAYMENTS_ROOM => payments,
            room if User::is_own_room(room) => own.iter().any(|own| own == room),
            _ => true,
        };
        self.rooms.retain(|room| allowed(room));
        self.stream.lock().forget_rooms(allowed);
    }

    /// Whether a broadcast with this number was for it, with the state of its stream.
    pub fn was_selected(&self, stream: &State, selection: &Selection, broadcast: u64) -> bool {
        let was_in = |room: &String| {
            let then = stream.was_in(room, broadcast);
            then.unwrap_or_else(|| self.rooms.contains(room))
        };
        let excepted = selection
            .except_socket
            .is_some_and(|key| key.is_same_client(&self.key));
        !excepted
            && !selection
                .except
                .iter()
                .any(|other| *other == self.id || was_in(other))
            && (selection.is_everyone()
                || selection.sockets.contains(&self.id)
                || selection.rooms.iter().any(was_in))
    }
}

impl Waiting {
    /// Where its client is that shows `offset`, if it can go on from there. One that has seen an event
    /// of this connection shows a place of this log.
    pub(crate) fn seen(&self, offset: Option<Offset>, log: &Log) -> Option<Place> {
        let state = self.former.stream.lock();
        let seen = match offset {
            Some(Offset::Here(place)) => state.seen(Some(place)),
            Some(Offset::Elsewhere) | None => state.seen(None),
            Some(Offset::Other) => return None,
        };
        let number = seen.next_number();
        let reaches = log.reaches(number) && state.reaches(seen) && state.knows_rooms_since(number);
        reaches.then_some(seen)
    }

    /// Whether its client has missed something since it dropped, and may still have it.
    pub(crate) fn has_missed(&self) -> bool {
        let Some(log) = self.log.upgrade() else {
            return false;
        };
        let log = log.read();
        let state = self.former.stream.lock();
        let number = self.dropped.next_number();
        let reaches = log.reaches(number) && state.reaches(self.dropped);
        let own = || state.missed(self.dropped).next().is_some();
        reaches && (own() || self.first_since(&state, &log, number).is_some())
    }

    /// The number of the first broadcast from `number` on that was for it.
    fn first_since(&self, state: &State, log: &Log, mut number: u64) -> Option<u64> {
        loop {
            let missed = log.missed(&self.former, state, number, AT_ONCE);
            if let Some((place, _)) = missed.events.first() {
                return Some(place.number);
            }
            number = missed.rest?;
        }
    }
}

/// So many broadcasts are looked at for the first that was for somebody.
const AT_ONCE: usize = 8;
