//! Connections that dropped, until they come back or their time is over.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Table,
    room::{Known, Room},
};
use crate::presence::Place;

/// A connection in a room that dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::presence) struct Away {
    /// When something is to be done about it.
    pub(super) due: Instant,
    /// Which absence it is.
    pub mark: u32,
    pub place: Place,
    pub connection: Box<str>,
}

impl Away {
    /// The connection, if it is away still: it may have come back, and dropped again.
    fn awaited<'a>(&self, rooms: &'a HashMap<Place, Arc<Room>>) -> Option<&'a Known> {
        let room = rooms.get(&self.place)?;
        let known = room.connections.get(&self.connection)?;
        let absence = known.state.absence()?;
        (absence.mark == self.mark).then_some(known)
    }
}

impl Table {
    /// When something is to be done about the first connection that dropped.
    pub(in crate::presence) fn next_expiry(&self) -> Option<Instant> {
        self.away.peek().map(|Reverse(away)| away.due)
    }

    pub(in crate::presence) fn expire(&mut self, now: Instant) {
        while let Some(away) = self.pop_due(now) {
            self.leave(&away.place, &away.connection);
        }
    }

    /// The connections whose time is over, which `server` is to say: of its own at once, of others' when nobody has
    /// for `others`. They stay until it is said.
    pub(in crate::presence) fn take_expired(
        &mut self,
        now: Instant,
        server: &str,
        others: Duration,
    ) -> Vec<Away> {
        let mut expired = Vec::new();
        let mut later = Vec::new();
        while let Some(away) = self.pop_due(now) {
            let known = away.awaited(&self.rooms);
            let is_its_turn = known.is_none_or(|known| {
                let until = known.state.absence().map_or(now, |absence| absence.until);
                *known.server == *server || until + others <= now
            });
            // What is said may be lost.
            later.push(Away {
                due: now + others,
                ..away.clone()
            });
            if is_its_turn {
                expired.push(away);
            }
        }
        later.into_iter().for_each(|away| self.wait_for(away));
        expired
    }

    /// Something is to be done about a connection when it is due.
    pub(super) fn wait_for(&mut self, away: Away) {
        self.away.push(Reverse(away));
        if self.away.len() > self.most_away {
            let rooms = &self.rooms;
            self.away
                .retain(|Reverse(away)| away.awaited(rooms).is_some());
            self.most_away = 64 + 2 * self.away.len();
        }
    }

    /// A connection that is away still, and for which the time has come.
    fn pop_due(&mut self, now: Instant) -> Option<Away> {
        loop {
            let Reverse(first) = self.away.peek()?;
            if first.due > now {
                return None;
            }
            let Reverse(away) = self.away.pop()?;
            if away.awaited(&self.rooms).is_some() {
                return Some(away);
            }
        }
    }
}
