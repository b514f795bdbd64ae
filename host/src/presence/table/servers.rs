//! Which server has which connections, and what becomes of those of one that is gone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{Table, room::State};
use crate::presence::Place;

/// The server of a connection whose own is gone.
pub(in crate::presence) const NOBODY: &str = "";

/// How many connections in rooms each server has, and the one text of each name.
#[derive(Clone, Default)]
pub(super) struct Servers(pub(super) HashMap<Arc<str>, usize>);

impl Servers {
    /// A server has one more; returns its name.
    pub(super) fn add(&mut self, server: &str) -> Arc<str> {
        let name = match self.0.get_key_value(server) {
            Some((name, _)) => name.clone(),
            None => server.into(),
        };
        *self.0.entry(name.clone()).or_default() += 1;
        name
    }

    /// It has one less.
    pub(super) fn release(&mut self, server: &str) {
        let Some(count) = self.0.get_mut(server) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.0.remove(server);
        }
    }
}

impl Table {
    /// The connection's server, whichever had it before.
    pub(in crate::presence) fn set_server(
        &mut self,
        place: &Place,
        connection: &str,
        server: &str,
    ) {
        let Some(room) = self.rooms.get_mut(place) else {
            return;
        };
        if let Some(known) = Arc::make_mut(room).connections.get_mut(connection)
            && *known.server != *server
        {
            let former = std::mem::replace(&mut known.server, self.servers.add(server));
            self.servers.release(&former);
        }
    }

    /// A server is gone: those of its connections that are here have dropped. Returns which these are.
    pub(in crate::presence) fn lose(
        &mut self,
        server: &str,
        now: Instant,
        mark: u32,
    ) -> Vec<(Place, Box<str>)> {
        let mut lost = Vec::new();
        for (place, connection, is_here) in self.of_server(server) {
            self.set_server(&place, &connection, NOBODY);
            if is_here {
                self.drop_out(&place, &connection, now, mark);
                lost.push((place, connection));
            }
        }
        lost
    }

    /// A server has these connections in rooms, and no others.
    pub(in crate::presence) fn keep_only(
        &mut self,
        server: &str,
        connections: &HashSet<&str>,
        now: Instant,
        mark: u32,
    ) {
        for (place, connection, _) in self.of_server(server) {
            if !connections.contains(&*connection) {
                self.drop_out(&place, &connection, now, mark);
            }
        }
    }

    /// The servers that have connections in rooms.
    pub(in crate::presence) fn servers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.servers.0.keys().filter(|name| ***name != *NOBODY)
    }

    /// The connections of a server, and whether they are here, in an order that does not depend on where it is asked.
    fn of_server(&self, server: &str) -> Vec<(Place, Box<str>, bool)> {
        let its = self.rooms.iter().flat_map(|(place, room)| {
            let its = room.connections.iter();
            let its = its.filter(|(_, known)| *known.server == *server);
            its.map(|(connection, known)| {
                (
                    place.clone(),
                    connection.clone(),
                    known.state == State::Here,
                )
            })
        });
        let mut its: Vec<_> = its.collect();
        its.sort_unstable();
        its
    }
}
