//! Who is where, and what becomes of that when connections come and go.

mod away;
mod bounds;
mod copy;
mod room;
mod servers;
mod telling;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    away::Away,
    bounds::{Bounds, CONNECTION_BYTES, room_bytes},
    room::{Absence, Known, Present, Room},
    servers::Servers,
};
pub(crate) use self::{bounds::Full, copy::Piece};
pub(in crate::presence) use self::{
    bounds::member_bytes, room::State, servers::NOBODY, telling::Change,
};
use super::{Member, Place, Who};
use crate::config;

/// Everybody who is present. On servers of a cluster that have done the same steps it is the same.
#[derive(Clone)]
pub(in crate::presence) struct Table {
    bounds: Bounds,
    grace: Duration,
    rooms: HashMap<Place, Arc<Room>>,
    /// Rooms in which something has changed since that was asked last.
    changed: HashSet<Place>,
    servers: Servers,
    /// Connections that dropped, by when their time is over.
    away: BinaryHeap<Reverse<Away>>,
    /// When there are so many of them, those that have come back are taken out.
    most_away: usize,
    bytes: usize,
}

/// A connection that is present in a room from now on, or is with other data.
#[derive(Clone, Copy)]
pub(in crate::presence) struct Entering<'a> {
    pub place: &'a Place,
    pub connection: &'a str,
    pub who: &'a Who,
    pub data: &'a Arc<str>,
    /// The server that has it.
    pub server: &'a str,
}

impl Table {
    pub(in crate::presence) fn new(bounds: &config::Presence, grace: Duration) -> Self {
        Self {
            bounds: Bounds::new(bounds),
            grace,
            rooms: HashMap::new(),
            changed: HashSet::new(),
            servers: Servers::default(),
            away: BinaryHeap::new(),
            most_away: 0,
            bytes: 0,
        }
    }

    /// Nobody, within the same bounds.
    pub(in crate::presence) fn empty(&self) -> Self {
        Self {
            rooms: HashMap::new(),
            changed: HashSet::new(),
            servers: Servers::default(),
            away: BinaryHeap::new(),
            most_away: 0,
            bytes: 0,
            ..*self
        }
    }

    /// Whoever calls this has asked whether there is a place.
    pub(in crate::presence) fn enter(&mut self, entering: Entering<'_>) {
        let Entering {
            place,
            connection,
            who,
            data,
            server,
        } = entering;
        let mut is_new = false;
        let room = self.rooms.entry(place.clone()).or_insert_with(|| {
            is_new = true;
            Arc::default()
        });
        let room = Arc::make_mut(room);
        if is_new {
            self.bytes += room_bytes(place);
        }
        let there = room.connections.get(connection);
        let is_there = there.is_some_and(|its| its.who == *who && its.state == State::Here);
        match room.members.get_mut(who) {
            Some(member) => {
                self.bytes -= member_bytes(who, &member.data);
                self.bytes += member_bytes(who, data);
                member.data = data.clone();
            }
            None => {
                self.bytes += member_bytes(who, data);
                let member = Present::new(data.clone());
                room.members.insert(who.clone(), member);
            }
        }
        if is_there {
            self.set_server(place, connection, server);
        } else {
            let entered = Known {
                who: who.clone(),
                state: State::Here,
                server: self.servers.add(server),
            };
            if let Some(member) = room.members.get_mut(who) {
                member.here += 1;
            }
            match room.connections.insert(connection.into(), entered) {
                Some(former) => {
                    self.servers.release(&former.server);
                    self.bytes -= room.release(&former.who, connection, &former.state);
                }
                None => {
                    self.bytes += CONNECTION_BYTES;
                    room.replace_away(who);
                }
            }
        }
        self.has_changed(place, who.clone());
    }

    pub(in crate::presence) fn leave(&mut self, place: &Place, connection: &str) {
        let Some(room) = self.rooms.get_mut(place) else {
            return;
        };
        if !room.connections.contains_key(connection) {
            return;
        }
        let room = Arc::make_mut(room);
        if let Some(known) = room.connections.remove(connection) {
            self.servers.release(&known.server);
            self.bytes -= CONNECTION_BYTES + room.release(&known.who, connection, &known.state);
            self.changed.insert(place.clone());
        }
    }

    pub(in crate::presence) fn drop_out(
        &mut self,
        place: &Place,
        connection: &str,
        now: Instant,
        mark: u32,
    ) {
        let Some(until) = now.checked_add(self.grace).filter(|until| *until > now) else {
            self.leave(place, connection);
            return;
        };
        let Some(room) = self.rooms.get_mut(place) else {
            return;
        };
        let room = Arc::make_mut(room);
        let Some(known) = room.connections.get_mut(connection) else {
            return;
        };
        if known.state != State::Here {
            return;
        }
        let absence = Absence { until, mark };
        known.state = State::Away(absence);
        let who = known.who.clone();
        if let Some(member) = room.members.get_mut(&who) {
            member.here -= 1;
            member.away.push_back(connection.into());
        }
        self.has_changed(place, who);
        self.wait_for(Away {
            due: until,
            mark,
            place: place.clone(),
            connection: connection.into(),
        });
    }

    pub(in crate::presence) fn come_back(&mut self, place: &Place, connection: &str) -> bool {
        let Some(room) = self.rooms.get_mut(place) else {
            return false;
        };
        if !room.connections.contains_key(connection) {
            return false;
        }
        let room = Arc::make_mut(room);
        let Some(known) = room.connections.get_mut(connection) else {
            return false;
        };
        let who = known.who.clone();
        match std::mem::replace(&mut known.state, State::Here) {
            State::Here => return true,
            State::Away(_) => {
                if let Some(member) = room.members.get_mut(&who) {
                    member.away.retain(|away| **away != *connection);
                    member.here += 1;
                }
            }
            // Its user may have left by the connection that replaced it.
            State::Replaced(_, data) => {
                let bytes = member_bytes(&who, &data);
                let member = room.members.entry(who.clone()).or_insert_with(|| {
                    self.bytes += bytes;
                    Present::new(data)
                });
                member.here += 1;
            }
        }
        self.has_changed(place, who);
        true
    }

    pub(in crate::presence) fn identify(
        &mut self,
        place: &Place,
        connection: &str,
        who: &Who,
        server: &str,
    ) {
        let Some(room) = self.rooms.get(place) else {
            return;
        };
        let Some(known) = room.connections.get(connection) else {
            return;
        };
        let Some(member) = room.members.get(&known.who).filter(|_| known.who != *who) else {
            return;
        };
        let data = member.data.clone();
        // Where the new one does not fit, the former one leaves all the same.
        if self.has_place(place, who).is_err() {
            return self.leave(place, connection);
        }
        self.enter(Entering {
            place,
            connection,
            who,
            data: &data,
            server,
        });
    }

    /// Whether a connection is, or was, present in a room.
    pub(in crate::presence) fn knows(&self, place: &Place, connection: &str) -> bool {
        self.known(place, connection).is_some()
    }

    pub(in crate::presence) fn known(&self, place: &Place, connection: &str) -> Option<&Known> {
        self.rooms.get(place)?.connections.get(connection)
    }

    pub(in crate::presence) fn members(&self, place: &Place) -> Vec<Member> {
        let members = self
            .rooms
            .get(place)
            .into_iter()
            .flat_map(|room| &room.members);
        members.map(|(who, member)| member.member(who)).collect()
    }

    pub(in crate::presence) fn count(&self, place: &Place) -> usize {
        self.rooms.get(place).map_or(0, |room| room.members.len())
    }

    /// Calls `take` with each connection in a room, and the data of its user.
    pub(in crate::presence) fn each(&self, mut take: impl FnMut(&Place, &str, &Known, &str)) {
        for (place, room) in &self.rooms {
            for (connection, known) in &room.connections {
                let member = room.members.get(&known.who);
                take(
                    place,
                    connection,
                    known,
                    member.map_or("null", |it| &it.data),
                );
            }
        }
    }

    /// Whether nothing is left of anybody.
    #[cfg(test)]
    pub(in crate::presence) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.bytes == 0 && self.servers.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
