//! Who is where.

mod copy;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

pub(crate) use self::copy::Piece;
use super::Member;
use crate::config;

/// The server of a connection whose own is gone.
pub(super) const NOBODY: &str = "";

/// Others have let somebody be present who came at the same moment as the last that there was room for: so much of
/// a bound, as a part of it, may go beyond it.
const AT_THE_SAME_MOMENT: usize = 4;

/// What a room, somebody in it (who is kept twice, as it is and as it was told) and a connection take beside their
/// texts, in bytes.
const ROOM_BYTES: usize = 600;
const MEMBER_BYTES: usize = 200;
const CONNECTION_BYTES: usize = 300;

/// Who is present.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Named", into = "Named")]
pub enum Who {
    /// The user with this id.
    User(Arc<str>),
    /// The anonymous connection with this public id.
    Anonymous(Arc<str>),
}

/// The same, between servers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    User(String),
    Anonymous(String),
}

impl From<Named> for Who {
    fn from(named: Named) -> Self {
        match named {
            Named::User(id) => Self::User(id.into()),
            Named::Anonymous(id) => Self::Anonymous(id.into()),
        }
    }
}

impl From<Who> for Named {
    fn from(who: Who) -> Self {
        match who {
            Who::User(id) => Self::User(id.to_string()),
            Who::Anonymous(id) => Self::Anonymous(id.to_string()),
        }
    }
}

/// A room of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    namespace: Arc<str>,
    room: Arc<str>,
}

/// Why somebody cannot be present.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("presence.{bound} = {allowed}")]
pub struct Full {
    /// The key in `mixlab.toml`.
    bound: &'static str,
    /// Its value.
    allowed: String,
}

/// Who came and went since that was told last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub joined: Vec<Member>,
    pub left: Vec<Member>,
    /// With another number of connections or other data.
    pub updated: Vec<Member>,
}

/// Everybody who is present. On servers of a cluster that have done the same steps it is the same.
#[derive(Clone)]
pub(super) struct Table {
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

/// A connection in a room that dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Away {
    /// When something is to be done about it.
    due: Instant,
    /// Which absence it is.
    pub mark: u32,
    pub place: Place,
    pub connection: Box<str>,
}

/// One of the times that a connection dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Absence {
    /// It may come back until then.
    pub until: Instant,
    /// Tells it from others.
    pub mark: u32,
}

#[derive(Clone, Default)]
pub(super) struct Room {
    members: BTreeMap<Who, Present>,
    connections: HashMap<Box<str>, Known>,
    /// What clients have been told of.
    told: HashMap<Who, Member>,
    /// Of whom something has changed since.
    changed: HashSet<Who>,
}

/// A connection in a room.
#[derive(Clone)]
pub(super) struct Known {
    /// Whose it is.
    pub who: Who,
    pub state: State,
    /// The server that has it, by its name in the cluster; nothing on a server on its own.
    pub server: Arc<str>,
}

#[derive(Clone)]
struct Present {
    here: u32,
    /// Connections that dropped and may come back, the oldest first.
    away: VecDeque<Box<str>>,
    data: Arc<str>,
}

/// ```text
/// Here => Away | gone
/// Away => Here | Replaced (its user has entered by another one) | gone
/// Replaced => Here | gone
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Here,
    /// It dropped, and may come back. Its user stays.
    Away(Absence),
    /// The same, but its user does not stay for it: a page that was loaded again has a new connection, and
    /// its former one never comes back. If it does, it has this to say.
    Replaced(Absence, Arc<str>),
}

impl Who {
    /// The id of the user or of the connection.
    pub fn id(&self) -> &str {
        match self {
            Self::User(id) | Self::Anonymous(id) => id,
        }
    }

    /// Whether it is a connection that belongs to nobody.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous(_))
    }
}

impl Place {
    pub(super) fn new(namespace: &str, room: &str) -> Self {
        Self {
            namespace: namespace.into(),
            room: room.into(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn room(&self) -> &str {
        &self.room
    }

    fn bytes(&self) -> usize {
        ROOM_BYTES + self.namespace.len() + self.room.len()
    }
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

impl State {
    /// Since when it is away, if it is.
    pub(super) fn absence(&self) -> Option<Absence> {
        match self {
            Self::Here => None,
            Self::Away(absence) | Self::Replaced(absence, _) => Some(*absence),
        }
    }
}

impl Present {
    fn is_over(&self) -> bool {
        self.here == 0 && self.away.is_empty()
    }

    fn member(&self, who: &Who) -> Member {
        Member {
            who: who.clone(),
            connections: self.here,
            data: self.data.clone(),
        }
    }
}

/// What one who is present takes, as it is or as it was told.
pub(super) fn member_bytes(who: &Who, data: &str) -> usize {
    MEMBER_BYTES + who.id().len() + data.len()
}

/// How much there may be.
#[derive(Clone, Copy)]
struct Bounds {
    rooms: usize,
    users: usize,
    bytes: usize,
}

impl Bounds {
    fn widened(self) -> Self {
        let more = |bound: usize| bound.saturating_add(bound / AT_THE_SAME_MOMENT + 1);
        Self {
            rooms: more(self.rooms),
            users: more(self.users),
            bytes: more(self.bytes),
        }
    }
}

/// How many connections in rooms each server has, and the one text of each name.
#[derive(Clone, Default)]
struct Servers(HashMap<Arc<str>, usize>);

impl Servers {
    /// A server has one more; returns its name.
    fn add(&mut self, server: &str) -> Arc<str> {
        let name = match self.0.get_key_value(server) {
            Some((name, _)) => name.clone(),
            None => server.into(),
        };
        *self.0.entry(name.clone()).or_default() += 1;
        name
    }

    /// It has one less.
    fn release(&mut self, server: &str) {
        let Some(count) = self.0.get_mut(server) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.0.remove(server);
        }
    }
}

/// A connection that is present in a room from now on, or is with other data.
#[derive(Clone, Copy)]
pub(super) struct Entering<'a> {
    pub place: &'a Place,
    pub connection: &'a str,
    pub who: &'a Who,
    pub data: &'a Arc<str>,
    /// The server that has it.
    pub server: &'a str,
}

impl Table {
    pub(super) fn new(bounds: &config::Presence, grace: Duration) -> Self {
        Self {
            bounds: Bounds {
                rooms: bounds.rooms,
                users: bounds.users,
                bytes: bounds.bytes.as_usize(),
            },
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
    pub(super) fn empty(&self) -> Self {
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

    pub(super) fn has_place(&self, place: &Place, who: &Who) -> Result<(), Full> {
        self.check(place, who, self.bounds)
    }

    /// Whether one has a place whom another server has let be present.
    pub(super) fn has_place_for_others(&self, place: &Place, who: &Who) -> Result<(), Full> {
        self.check(place, who, self.bounds.widened())
    }

    fn check(&self, place: &Place, who: &Who, bounds: Bounds) -> Result<(), Full> {
        let full = |bound, allowed: usize| {
            Err(Full {
                bound,
                allowed: allowed.to_string(),
            })
        };
        let room = self.rooms.get(place);
        if room.is_none() && self.rooms.len() >= bounds.rooms {
            return full("rooms", bounds.rooms);
        }
        let is_new = room.is_none_or(|room| !room.members.contains_key(who));
        if is_new && room.is_some_and(|room| room.members.len() >= bounds.users) {
            return full("users", bounds.users);
        }
        if self.bytes >= bounds.bytes {
            return full("bytes", bounds.bytes);
        }
        Ok(())
    }

    /// Whoever calls this has asked whether there is a place.
    pub(super) fn enter(&mut self, entering: Entering<'_>) {
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
            self.bytes += place.bytes();
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
                let member = Present {
                    here: 0,
                    away: VecDeque::new(),
                    data: data.clone(),
                };
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

    /// The connection's server, whichever had it before.
    pub(super) fn set_server(&mut self, place: &Place, connection: &str, server: &str) {
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

    fn has_changed(&mut self, place: &Place, who: Who) {
        if let Some(room) = self.rooms.get_mut(place) {
            Arc::make_mut(room).changed.insert(who);
            self.changed.insert(place.clone());
        }
    }

    pub(super) fn leave(&mut self, place: &Place, connection: &str) {
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

    pub(super) fn drop_out(&mut self, place: &Place, connection: &str, now: Instant, mark: u32) {
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

    fn wait_for(&mut self, away: Away) {
        self.away.push(Reverse(away));
        if self.away.len() > self.most_away {
            let rooms = &self.rooms;
            self.away
                .retain(|Reverse(away)| away.awaited(rooms).is_some());
            self.most_away = 64 + 2 * self.away.len();
        }
    }

    /// Whether a connection is, or was, present in a room.
    pub(super) fn knows(&self, place: &Place, connection: &str) -> bool {
        self.known(place, connection).is_some()
    }

    pub(super) fn known(&self, place: &Place, connection: &str) -> Option<&Known> {
        self.rooms.get(place)?.connections.get(connection)
    }

    pub(super) fn come_back(&mut self, place: &Place, connection: &str) -> bool {
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
                    Present {
                        here: 0,
                        away: VecDeque::new(),
                        data,
                    }
                });
                member.here += 1;
            }
        }
        self.has_changed(place, who);
        true
    }

    pub(super) fn identify(&mut self, place: &Place, connection: &str, who: &Who, server: &str) {
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

    pub(super) fn members(&self, place: &Place) -> Vec<Member> {
        let members = self
            .rooms
            .get(place)
            .into_iter()
            .flat_map(|room| &room.members);
        members.map(|(who, member)| member.member(who)).collect()
    }

    pub(super) fn count(&self, place: &Place) -> usize {
        self.rooms.get(place).map_or(0, |room| room.members.len())
    }

    /// When something is to be done about the first connection that dropped.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.away.peek().map(|Reverse(away)| away.due)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(away) = self.pop_due(now) {
            self.leave(&away.place, &away.connection);
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

    /// The connections whose time is over, which `server` is to say: of its own at once, of others' when nobody has
    /// for `others`. They stay until it is said.
    pub(super) fn take_expired(
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

    /// A server is gone: those of its connections that are here have dropped. Returns which these are.
    pub(super) fn lose(&mut self, server: &str, now: Instant, mark: u32) -> Vec<(Place, Box<str>)> {
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
    pub(super) fn keep_only(
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

    /// Calls `take` with each connection in a room, and the data of its user.
    pub(super) fn each(&self, mut take: impl FnMut(&Place, &str, &Known, &str)) {
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

    /// The servers that have connections in rooms.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.servers.0.keys().filter(|name| ***name != *NOBODY)
    }

    /// Whether nothing is left of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.bytes == 0 && self.servers.0.is_empty()
    }

    /// Whether something has changed since it was told last.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has changed since it was told last, and is told now. Nobody is told of who came and went meanwhile.
    pub(super) fn take_changes(&mut self) -> Vec<(Place, Change)> {
        let mut changes = Vec::new();
        for place in self.take_changed() {
            let change = self.change(&place);
            if change != Change::default() {
                changes.push((place.clone(), self.is_told(&place, change)));
            }
        }
        self.changed.clear();
        changes
    }

    /// The rooms in which something has changed since this was asked.
    pub(super) fn take_changed(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// What is still to be told of a room.
    pub(super) fn change(&mut self, place: &Place) -> Change {
        let Some(room) = self.rooms.get_mut(place) else {
            return Change::default();
        };
        let change = Arc::make_mut(room).change();
        self.forget_if_empty(place);
        change
    }

    /// Whether something is still to be told of a room.
    pub(super) fn is_to_be_told(&self, place: &Place) -> bool {
        self.rooms
            .get(place)
            .is_some_and(|room| !room.changed.is_empty())
    }

    /// A room is told this; returns what of it is new.
    pub(super) fn is_told(&mut self, place: &Place, change: Change) -> Change {
        let Some(room) = self.rooms.get_mut(place) else {
            return change;
        };
        let room = Arc::make_mut(room);
        let new = room.is_told(change, &mut self.bytes, self.bounds.widened().bytes);
        self.forget_if_empty(place);
        new
    }

    fn forget_if_empty(&mut self, place: &Place) {
        if self.rooms.get(place).is_some_and(|room| room.is_empty()) {
            self.rooms.remove(place);
            self.bytes -= place.bytes();
        }
    }
}
impl Room {
    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.connections.is_empty() && self.told.is_empty()
    }

    /// The oldest connection of somebody that is away keeps nobody present any more.
    fn replace_away(&mut self, who: &Who) {
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
    fn release(&mut self, who: &Who, connection: &str, was: &State) -> usize {
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

    fn member(&self, who: &Who) -> Option<Member> {
        self.members.get(who).map(|member| member.member(who))
    }

    /// What is to be told. Who is as was told is not looked at again.
    fn change(&mut self) -> Change {
        let Self {
            members,
            told,
            changed,
            ..
        } = self;
        let mut change = Change::default();
        changed.retain(|who| {
            let now = members.get(who).map(|member| member.member(who));
            match (told.get(who), now) {
                (None, Some(member)) => change.joined.push(member),
                (Some(told), Some(member)) if *told != member => change.updated.push(member),
                (Some(told), None) => change.left.push(Member {
                    connections: 0,
                    ..told.clone()
                }),
                _ => return false,
            }
            true
        });
        for list in [&mut change.joined, &mut change.left, &mut change.updated] {
            list.sort_by(|a, b| a.who.cmp(&b.who));
        }
        change
    }

    /// Notes what is told, and returns what of it is new. What is beyond `most` bytes is not noted.
    fn is_told(&mut self, change: Change, bytes: &mut usize, most: usize) -> Change {
        let Change {
            joined,
            left,
            updated,
        } = change;
        let mut new = Change::default();
        for member in joined.into_iter().chain(updated) {
            let who = member.who.clone();
            let takes = member_bytes(&who, &member.data);
            if *bytes + takes <= most {
                *bytes += takes;
                match self.told.insert(who.clone(), member.clone()) {
                    None => new.joined.push(member),
                    Some(told) => {
                        *bytes -= member_bytes(&who, &told.data);
                        if told != member {
                            new.updated.push(member);
                        }
                    }
                }
            } else {
                new.joined.push(member);
            }
            self.look_again_at(who);
        }
        for member in left {
            let who = member.who.clone();
            if let Some(told) = self.told.remove(&who) {
                *bytes -= member_bytes(&who, &told.data);
                new.left.push(member);
            }
            self.look_again_at(who);
        }
        new
    }

    /// Whether something of somebody is to be told.
    fn look_again_at(&mut self, who: Who) {
        match self.told.get(&who) == self.member(&who).as_ref() {
            true => self.changed.remove(&who),
            false => self.changed.insert(who),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn table() -> Table {
        Table::new(&config::Presence::default(), GRACE)
    }

    fn room() -> Place {
        Place::new("/", "r")
    }

    fn enter(table: &mut Table, connection: &str, user: &str) {
        let who = Who::User(user.into());
        table.has_place(&room(), &who).unwrap();
        table.enter(Entering {
            place: &room(),
            connection,
            who: &who,
            data: &"1".into(),
            server: "",
        });
    }

    fn counts(table: &Table) -> Vec<(String, u32)> {
        let members = table.members(&room()).into_iter();
        members
            .map(|member| (member.who.id().to_owned(), member.connections))
            .collect()
    }

    #[test]
    fn who_was_replaced_and_comes_back_is_present_again() {
        let (mut table, now) = (table(), Instant::now());
        enter(&mut table, "1", "ada");
        table.drop_out(&room(), "1", now, 0);
        assert_eq!(counts(&table), [("ada".to_owned(), 0)]);
        enter(&mut table, "2", "ada");
        table.leave(&room(), "2");
        assert_eq!(counts(&table), [], "by its page that was loaded again");
        assert!(table.come_back(&room(), "1"));
        assert_eq!(counts(&table), [("ada".to_owned(), 1)]);
        table.leave(&room(), "1");
        table.take_changes();
        assert!(table.rooms.is_empty() && table.bytes == 0);
    }

    #[test]
    fn who_came_and_went_since_nobody_was_told_is_not_told() {
        let mut table = table();
        enter(&mut table, "1", "ada");
        enter(&mut table, "2", "bob");
        table.leave(&room(), "2");
        let changes = table.take_changes();
        assert_eq!((changes.len(), changes[0].1.joined.len()), (1, 1));
        table.drop_out(&room(), "1", Instant::now(), 0);
        table.come_back(&room(), "1");
        assert_eq!(table.take_changes(), []);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Enter,
        Leave,
        Drop,
        Back,
        Pass,
        Tell,
    }

    proptest! {
        /// Whatever connections do: counts are those of the connections that are here, who follows the changes
        /// knows what the table says, and nothing is left in the end.
        #[test]
        fn counts_are_exact(
            steps in proptest::collection::vec(
                (0..6_usize, 0..6_usize),
                1..150,
            ),
        ) {
            let all = [Step::Enter, Step::Leave, Step::Drop, Step::Back, Step::Pass, Step::Tell];
            let (mut table, mut now) = (table(), Instant::now());
            let mut here = [false; 6];
            let mut marks = 0;
            let mut known: BTreeMap<Who, u32> = BTreeMap::new();
            for (step, connection) in steps {
                let id = connection.to_string();
                match all[step] {
                    Step::Enter => {
                        enter(&mut table, &id, ["ada", "bob"][connection % 2]);
                        here[connection] = true;
                    }
                    Step::Leave => {
                        table.leave(&room(), &id);
                        here[connection] = false;
                    }
                    Step::Drop => {
                        marks += 1;
                        table.drop_out(&room(), &id, now, marks);
                        here[connection] = false;
                    }
                    Step::Back => here[connection] |= table.come_back(&room(), &id),
                    Step::Pass => {
                        now += GRACE / 2;
                        table.expire(now);
                    }
                    Step::Tell => {
                        for (_, change) in table.take_changes() {
                            for member in change.joined.into_iter().chain(change.updated) {
                                known.insert(member.who, member.connections);
                            }
                            for member in change.left {
                                prop_assert!(known.remove(&member.who).is_some());
                            }
                        }
                        let told: Vec<_> = known
                            .iter()
                            .map(|(who, connections)| (who.id().to_owned(), *connections))
                            .collect();
                        prop_assert_eq!(told, counts(&table));
                    }
                }
                for (user, rest) in [("ada", 0), ("bob", 1)] {
                    let is_here = |index: &usize| index % 2 == rest && here[*index];
                    let expected = (0..6).filter(is_here).count() as u32;
                    let counted = counts(&table);
                    let counted = counted.iter().find(|(id, _)| id == user);
                    prop_assert_eq!(counted.map_or(0, |(_, count)| *count), expected);
                }
            }
            for connection in 0..6 {
                table.leave(&room(), &connection.to_string());
            }
            table.take_changes();
            prop_assert!(table.rooms.is_empty());
            prop_assert_eq!(table.bytes, 0);
        }
    }
}
