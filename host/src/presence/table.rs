//! Who is where.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Member;
use crate::config;

/// What a room, somebody in it and a connection take beside their texts, in bytes.
const ROOM_BYTES: usize = 600;
const MEMBER_BYTES: usize = 400;
const CONNECTION_BYTES: usize = 300;

/// Who is present.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The user with this id.
    User(Arc<str>),
    /// The anonymous connection with this public id.
    Anonymous(Arc<str>),
}

/// A room of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub joined: Vec<Member>,
    pub left: Vec<Member>,
    /// With another number of connections or other data.
    pub updated: Vec<Member>,
}

/// Everybody who is present.
pub(super) struct Table {
    max_rooms: usize,
    max_users: usize,
    max_bytes: usize,
    grace: Duration,
    rooms: HashMap<Place, Room>,
    /// Rooms with changes that nobody has been told.
    changed: HashSet<Place>,
    /// Connections that dropped, by when their time is over.
    away: VecDeque<Away>,
    /// When there are so many of them, those that have come back are taken out.
    most_away: usize,
    bytes: usize,
}

struct Away {
    until: Instant,
    place: Place,
    connection: Box<str>,
}

#[derive(Default)]
struct Room {
    members: BTreeMap<Who, Present>,
    /// Whose connection it is.
    connections: HashMap<Box<str>, (Who, State)>,
    /// What clients have been told of.
    told: HashMap<Who, Member>,
    /// Of whom something has changed since.
    changed: HashSet<Who>,
}

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
#[derive(Clone, PartialEq, Eq)]
enum State {
    Here,
    /// It dropped, and may come back until then. Its user stays.
    Away(Instant),
    /// The same, but its user does not stay for it: a page that was loaded again has a new connection, and
    /// its former one never comes back. If it does, it has this to say.
    Replaced(Instant, Arc<str>),
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
    /// Whether it is away still: it may have come back, and dropped again.
    fn is_awaited(&self, rooms: &HashMap<Place, Room>) -> bool {
        let room = rooms.get(&self.place);
        let known = room.and_then(|room| room.connections.get(&self.connection));
        known.is_some_and(|(_, state)| match state {
            State::Here => false,
            State::Away(until) | State::Replaced(until, _) => *until == self.until,
        })
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

/// What one who is present takes: it is kept twice, as it is and as it was told.
fn member_bytes(who: &Who, data: &str) -> usize {
    MEMBER_BYTES + 2 * (who.id().len() + data.len())
}

impl Table {
    pub(super) fn new(bounds: &config::Presence, grace: Duration) -> Self {
        Self {
            max_rooms: bounds.rooms,
            max_users: bounds.users,
            max_bytes: bounds.bytes.as_usize(),
            grace,
            rooms: HashMap::new(),
            changed: HashSet::new(),
            away: VecDeque::new(),
            most_away: 0,
            bytes: 0,
        }
    }

    pub(super) fn has_place(&self, place: &Place, who: &Who) -> Result<(), Full> {
        let room = self.rooms.get(place);
        if room.is_none() && self.rooms.len() >= self.max_rooms {
            return Err(Full {
                bound: "rooms",
                allowed: self.max_rooms.to_string(),
            });
        }
        let is_new = room.is_none_or(|room| !room.members.contains_key(who));
        if is_new && room.is_some_and(|room| room.members.len() >= self.max_users) {
            return Err(Full {
                bound: "users",
                allowed: self.max_users.to_string(),
            });
        }
        if self.bytes >= self.max_bytes {
            return Err(Full {
                bound: "bytes",
                allowed: self.max_bytes.to_string(),
            });
        }
        Ok(())
    }

    pub(super) fn enter(
        &mut self,
        place: Place,
        connection: &str,
        who: Who,
        data: Arc<str>,
    ) -> Result<(), Full> {
        self.has_place(&place, &who)?;
        let place_bytes = place.bytes();
        let mut is_new = false;
        let room = self.rooms.entry(place.clone()).or_insert_with(|| {
            is_new = true;
            Room::default()
        });
        if is_new {
            self.bytes += place_bytes;
        }
        let there = room.connections.get(connection);
        let is_there = there.is_some_and(|(its, state)| *its == who && *state == State::Here);
        match room.members.get_mut(&who) {
            Some(member) => {
                self.bytes -= member_bytes(&who, &member.data);
                self.bytes += member_bytes(&who, &data);
                member.data = data;
            }
            None => {
                self.bytes += member_bytes(&who, &data);
                let member = Present {
                    here: 0,
                    away: VecDeque::new(),
                    data,
                };
                room.members.insert(who.clone(), member);
            }
        }
        if !is_there {
            let entered = (who.clone(), State::Here);
            if let Some(member) = room.members.get_mut(&who) {
                member.here += 1;
            }
            match room.connections.insert(connection.into(), entered) {
                Some((former, state)) => self.bytes -= room.release(&former, connection, state),
                None => {
                    self.bytes += CONNECTION_BYTES;
                    room.replace_away(&who);
                }
            }
        }
        room.changed.insert(who);
        self.changed.insert(place);
        Ok(())
    }

    pub(super) fn leave(&mut self, place: &Place, connection: &str) {
        let Some(room) = self.rooms.get_mut(place) else {
            return;
        };
        if let Some((who, state)) = room.connections.remove(connection) {
            self.bytes -= CONNECTION_BYTES + room.release(&who, connection, state);
            self.changed.insert(place.clone());
        }
    }

    pub(super) fn drop_out(&mut self, place: &Place, connection: &str, now: Instant) {
        let Some(until) = now.checked_add(self.grace).filter(|until| *until > now) else {
            self.leave(place, connection);
            return;
        };
        let Some(room) = self.rooms.get_mut(place) else {
            return;
        };
        let Some((who, state @ State::Here)) = room.connections.get_mut(connection) else {
            return;
        };
        *state = State::Away(until);
        if let Some(member) = room.members.get_mut(who) {
            member.here -= 1;
            member.away.push_back(connection.into());
        }
        room.changed.insert(who.clone());
        self.changed.insert(place.clone());
        self.away.push_back(Away {
            until,
            place: place.clone(),
            connection: connection.into(),
        });
        if self.away.len() > self.most_away {
            let rooms = &self.rooms;
            self.away.retain(|away| away.is_awaited(rooms));
            self.most_away = 64 + 2 * self.away.len();
        }
    }

    pub(super) fn come_back(&mut self, place: &Place, connection: &str) -> bool {
        let Some(room) = self.rooms.get_mut(place) else {
            return false;
        };
        let Some((who, state)) = room.connections.get_mut(connection) else {
            return false;
        };
        match std::mem::replace(state, State::Here) {
            State::Here => return true,
            State::Away(_) => {
                if let Some(member) = room.members.get_mut(who) {
                    member.away.retain(|away| **away != *connection);
                    member.here += 1;
                }
            }
            // Its user may have left by the connection that replaced it.
            State::Replaced(_, data) => {
                let bytes = member_bytes(who, &data);
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
        room.changed.insert(who.clone());
        self.changed.insert(place.clone());
        true
    }

    pub(super) fn identify(&mut self, place: &Place, connection: &str, who: &Who) {
        let Some(room) = self.rooms.get(place) else {
            return;
        };
        let Some((former, _)) = room.connections.get(connection) else {
            return;
        };
        let Some(member) = room.members.get(former).filter(|_| former != who) else {
            return;
        };
        let data = member.data.clone();
        // Where the new one does not fit, the former one leaves all the same.
        if self
            .enter(place.clone(), connection, who.clone(), data)
            .is_err()
        {
            self.leave(place, connection);
        }
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

    /// When the first connection that dropped cannot come back any more.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.away.front().map(|away| away.until)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(away) = self.away.pop_front_if(|away| away.until <= now) {
            if away.is_awaited(&self.rooms) {
                self.leave(&away.place, &away.connection);
            }
        }
    }

    /// Whether something has changed since it was told last.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has changed since it was told last. Nobody is told of who came and went meanwhile.
    pub(super) fn take_changes(&mut self) -> Vec<(Place, Change)> {
        let mut changes = Vec::new();
        for place in std::mem::take(&mut self.changed) {
            let Some(room) = self.rooms.get_mut(&place) else {
                continue;
            };
            let change = room.take_change();
            if room.members.is_empty() && room.connections.is_empty() {
                self.rooms.remove(&place);
                self.bytes -= place.bytes();
            }
            if change != Change::default() {
                changes.push((place, change));
            }
        }
        changes
    }
}

impl Room {
    /// The oldest connection of somebody that is away keeps nobody present any more.
    fn replace_away(&mut self, who: &Who) {
        let Some(member) = self.members.get_mut(who) else {
            return;
        };
        let oldest = member.away.pop_front();
        let oldest = oldest.and_then(|oldest| self.connections.get_mut(&oldest));
        if let Some((_, state)) = oldest
            && let State::Away(until) = *state
        {
            *state = State::Replaced(until, member.data.clone());
        }
    }

    /// One connection less of somebody; returns how many bytes that frees beside it.
    fn release(&mut self, who: &Who, connection: &str, was: State) -> usize {
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

    fn take_change(&mut self) -> Change {
        let mut change = Change::default();
        for who in std::mem::take(&mut self.changed) {
            let now = self.members.get(&who).map(|member| member.member(&who));
            let told = match &now {
                Some(member) => self.told.insert(who, member.clone()),
                None => self.told.remove(&who),
            };
            match (told, now) {
                (None, Some(member)) => change.joined.push(member),
                (Some(told), Some(member)) if told != member => change.updated.push(member),
                (Some(told), None) => change.left.push(Member {
                    connections: 0,
                    ..told
                }),
                _ => {}
            }
        }
        for list in [&mut change.joined, &mut change.left, &mut change.updated] {
            list.sort_by(|a, b| a.who.cmp(&b.who));
        }
        change
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
        table.enter(room(), connection, who, "1".into()).unwrap();
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
        table.drop_out(&room(), "1", now);
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
        table.drop_out(&room(), "1", Instant::now());
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
                        table.drop_out(&room(), &id, now);
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
