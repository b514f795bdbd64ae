//! A table in pieces, for a server that has just started.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Table,
    away::Away,
    bounds::{CONNECTION_BYTES, MEMBER_BYTES, member_bytes, room_bytes},
    room::{Absence, Known, Present, Room, State},
};
use crate::presence::{Member, Place, Who, is_sound};

/// A piece is complete with so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Some of a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Piece {
    namespace: String,
    room: String,
    members: Vec<(Who, String)>,
    /// Those of one user in the order in which they dropped.
    connections: Vec<CopiedConnection>,
    told: Vec<(Who, u32, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CopiedConnection {
    id: String,
    who: Who,
    server: String,
    state: CopiedState,
}

/// As [`State`], with the milliseconds that are left, and the mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum CopiedState {
    Here,
    Away(u64, u32),
    Replaced(u64, u32, String),
}

impl CopiedState {
    fn of(state: &State, now: Instant) -> Self {
        let left = |absence: &Absence| {
            let left = absence.until.saturating_duration_since(now).as_millis();
            u64::try_from(left).unwrap_or(u64::MAX)
        };
        match state {
            State::Here => Self::Here,
            State::Away(absence) => Self::Away(left(absence), absence.mark),
            State::Replaced(absence, data) => {
                Self::Replaced(left(absence), absence.mark, data.to_string())
            }
        }
    }

    fn restored(self, now: Instant, grace: Duration) -> State {
        let absence = |left, mark| Absence {
            until: now
                .checked_add(Duration::from_millis(left).min(grace))
                .unwrap_or(now),
            mark,
        };
        match self {
            Self::Here => State::Here,
            Self::Away(left, mark) => State::Away(absence(left, mark)),
            Self::Replaced(left, mark, data) => State::Replaced(absence(left, mark), data.into()),
        }
    }
}

impl Piece {
    fn new(place: &Place) -> Self {
        Self {
            namespace: place.namespace().to_owned(),
            room: place.room().to_owned(),
            members: Vec::new(),
            connections: Vec::new(),
            told: Vec::new(),
        }
    }
}

/// Takes what there is of a room to pieces.
struct Cutter<'a> {
    place: &'a Place,
    piece: Piece,
    bytes: usize,
    pieces: Vec<Piece>,
}

impl Cutter<'_> {
    fn take(&mut self, bytes: usize, add: impl FnOnce(&mut Piece)) {
        add(&mut self.piece);
        self.bytes += bytes;
        if self.bytes > PIECE_BYTES {
            self.bytes = 0;
            let full = std::mem::replace(&mut self.piece, Piece::new(self.place));
            self.pieces.push(full);
        }
    }
}

impl Table {
    /// All of it.
    pub(in crate::presence) fn pieces(&self, now: Instant) -> Vec<Piece> {
        let rooms = self.rooms.iter();
        rooms
            .flat_map(|(place, room)| room.pieces(place, now))
            .collect()
    }

    /// Adds a piece of what another server has.
    pub(in crate::presence) fn restore(&mut self, piece: Piece, now: Instant) {
        let Piece {
            namespace,
            room,
            members,
            connections,
            told,
        } = piece;
        let place = Place::new(&namespace, &room);
        let widened = self.bounds.widened();
        if self.bytes >= widened.bytes
            || (self.rooms.len() >= widened.rooms && !self.rooms.contains_key(&place))
        {
            return;
        }
        let grace = self.grace;
        let mut aways = Vec::new();
        let its = self.rooms.entry(place.clone()).or_insert_with(|| {
            self.bytes += room_bytes(&place);
            Arc::default()
        });
        let its = Arc::make_mut(its);
        for (who, data) in members {
            if !is_sound(&data) || its.members.contains_key(&who) {
                continue;
            }
            self.bytes += member_bytes(&who, &data);
            let member = Present::new(data.into());
            its.changed.insert(who.clone());
            its.members.insert(who, member);
        }
        for copied in connections {
            let CopiedConnection {
                id,
                who,
                server,
                state,
            } = copied;
            if its.connections.contains_key(&*id) {
                continue;
            }
            let state = state.restored(now, grace);
            let member = its.members.get_mut(&who);
            match (&state, member) {
                (State::Replaced(..), _) => {}
                (State::Here, Some(member)) => member.here += 1,
                (State::Away(_), Some(member)) => member.away.push_back(id.as_str().into()),
                // Whose it is was in no piece.
                (State::Here | State::Away(_), None) => continue,
            }
            if let Some(absence) = state.absence() {
                aways.push(Away {
                    due: absence.until,
                    mark: absence.mark,
                    place: place.clone(),
                    connection: id.as_str().into(),
                });
            }
            self.bytes += CONNECTION_BYTES;
            let server = self.servers.add(&server);
            its.connections
                .insert(id.into(), Known { who, state, server });
        }
        for (who, connections, data) in told {
            if !is_sound(&data) || its.told.contains_key(&who) {
                continue;
            }
            self.bytes += member_bytes(&who, &data);
            its.changed.insert(who.clone());
            let member = Member {
                who: who.clone(),
                connections,
                data: data.into(),
            };
            its.told.insert(who, member);
        }
        self.away.extend(aways.into_iter().map(Reverse));
        self.changed.insert(place);
    }
}

impl Room {
    fn pieces(&self, place: &Place, now: Instant) -> Vec<Piece> {
        let mut cutter = Cutter {
            place,
            piece: Piece::new(place),
            bytes: 0,
            pieces: Vec::new(),
        };
        for (who, member) in &self.members {
            let (bytes, data) = (member_bytes(who, &member.data), member.data.to_string());
            cutter.take(bytes, |piece| piece.members.push((who.clone(), data)));
        }
        let awaited = self.members.values().flat_map(|member| &member.away);
        let others = self.connections.iter();
        let others = others.filter(|(_, known)| !matches!(known.state, State::Away(_)));
        let all = awaited
            .filter_map(|id| self.connections.get_key_value(id))
            .chain(others);
        for (id, known) in all {
            let copied = CopiedConnection {
                id: id.to_string(),
                who: known.who.clone(),
                server: known.server.to_string(),
                state: CopiedState::of(&known.state, now),
            };
            let bytes = MEMBER_BYTES + known.who.id().len();
            cutter.take(bytes, |piece| piece.connections.push(copied));
        }
        for (who, told) in &self.told {
            let said = (who.clone(), told.connections, told.data.to_string());
            let bytes = member_bytes(who, &told.data);
            cutter.take(bytes, |piece| piece.told.push(said));
        }
        let Cutter {
            piece, mut pieces, ..
        } = cutter;
        pieces.push(piece);
        pieces
    }
}
