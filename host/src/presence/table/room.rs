//! One room: who is in it, by which connections.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::bounds::member_bytes;
use crate::presence::{Member, Who};

#[derive(Clone, Default)]
pub(in crate::presence) struct Room {
    pub(super) members: BTreeMap<Who, Present>,
    pub(super) connections: HashMap<Box<str>, Known>,
    /// What clients have been told of.
    pub(super) told: HashMap<Who, Member>,
    /// Of whom something has changed since.
    pub(super) changed: HashSet<Who>,
}

/// A connection in a room.
#[derive(Clone)]
pub(in crate::presence) struct Known {
    /// Whose it is.
    pub who: Who,
    pub state: State,
    /// The server that has it, by its name in the cluster; nothing on a server on its own.
    pub server: Arc<str>,
}

/// ```text
/// Here => Away | gone
/// Away => Here | Replaced (its user has entered by another one) | gone
/// Replaced => Here | gone
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::presence) enum State {
    Here,
    /// It dropped, and may come back. Its user stays.
    Away(Absence),
    /// The same, but its user does not stay for it: a page that was loaded again has a new connection, and
    /// its former one never comes back. If it does, it has this to say.
    Replaced(Absence, Arc<str>),
}

/// One of the times that a connection dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::presence) struct Absence {
    /// It may come back until then.
    pub until: Instant,
    /// Tells it from others.
    pub mark: u32,
}

/// Somebody in a room.
#[derive(Clone)]
pub(super) struct Present {
    pub(super) here: u32,
    /// Connections that dropped and may come back, the oldest first.
    pub(super) away: VecDeque<Box<str>>,
    pub(super) data: Arc<str>,
}

impl State {
    /// Since when it is away, if it is.
    pub(in crate::presence) fn absence(&self) -> Option<Absence> {
        match self {
            Self::Here => None,
            Self::Away(absence) | Self::Replaced(absence, _) => Some(*absence),
        }
    }
}

impl Present {
    /// Somebody with no connection yet.
    pub(super) fn new(data: Arc<str>) -> Self {
        Self {
            here: 0,
            away: VecDeque::new(),
            data,
        }
    }

    fn is_over(&self) -> bool {
        self.here == 0 && self.away.is_empty()
    }

    pub(super) fn member(&self, who: &Who) -> Member {
        Member {
            who: who.clone(),
            connections: self.here,
            data: self.data.clone(),
        }
    }
}

impl Room {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.connections.is_empty() && self.told.is_empty()
    }

    /// The oldest connection of somebody that is away keeps nobody present any more.
    pub(super) fn replace_away(&mut self, who: &Who) {
        let Some(member) = self.members.get_mut(who) else {
            return;
        };
        let oldest = member.away.pop_front();
        let oldest = oldest.and_then(|oldest| self.connections.get_mut(&oldest));
        if let Some(known) = oldest
            && let State::Away(absence) = known.state
        {
            known.state = State::Replaced(absence, member.data.clone());
        }
    }

    /// One connection less of somebody; returns how many bytes that frees beside it.
    pub(super) fn release(&mut self, who: &Who, connection: &str, was: &State) -> usize {
        self.changed.insert(who.clone());
        let Some(member) = self.members.get_mut(who) else {
            return 0;
        };
        match was {
            State::Here => member.here -= 1,
            State::Away(_) => member.away.retain(|away| **away != *connection),
            State::Replaced(..) => {}
        }
        if !member.is_over() {
            return 0;
        }
        let bytes = member_bytes(who, &member.data);
        self.members.remove(who);
        bytes
    }

    pub(super) fn member(&self, who: &Who) -> Option<Member> {
        self.members.get(who).map(|member| member.member(who))
    }
}
