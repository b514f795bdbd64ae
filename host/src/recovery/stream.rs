//! What one connection alone was sent, and in which rooms it has been.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Place,
    carried::OwnEvent,
    place::{Kind, Tag},
    pool::{MORE, Pool},
};
use crate::{
    ordered_lock::{OrderedMutex, OrderedMutexGuard, rank},
    transport::{Packet, SessionKey},
};

/// What a stream may take at most, in bytes: more than that does not get lost on the way.
pub(super) const MOST: usize = 256 << 10;

/// Streams take memory in steps of so many bytes: most events change nothing that others share.
const STEP: usize = 512;

/// What an event takes beside its packet's bytes: the entry itself, and what allocations cost.
const EVENT_OVERHEAD: usize = size_of::<Event>() + 64;

/// So often an event is replayed to a client that has seen nothing in between. One that drops each time
/// has likely an event that it cannot read, and would drop for ever.
const MAX_REPLAYS: u8 = 2;

/// How many changes of rooms are kept.
const MAX_CHANGES: usize = 64;

/// The events to one connection alone. It outlives the sockets that the connection has: what is sent
/// to it while its client is away waits here.
#[derive(Debug)]
pub struct Stream {
    pool: Arc<Pool>,
    /// What the places of its events have in front.
    pub(super) tag: Tag,
    state: OrderedMutex<{ rank::STREAM }, State>,
}

/// What a stream is made of, under its lock.
#[derive(Debug)]
pub struct State {
    presence: Presence,
    /// Where it stands in what its client gets when it has been sent nothing.
    start: Place,
    /// How many events it has been sent, but for volatile ones.
    count: u64,
    /// How many of them other servers have been told of.
    told: u64,
    events: VecDeque<Event>,
    /// What the events take, in bytes.
    bytes: usize,
    /// What is taken of the pool for them.
    taken: usize,
    /// Events went that could have been kept, had others taken less.
    is_short: bool,
    /// Where the last event stood that is gone.
    lost: Option<Place>,
    changes: VecDeque<Change>,
    /// The first number since which all changes of rooms are known.
    unknown_before: u64,
    /// What the client has not got beyond; none for those that have never come back for anything.
    replayed: Option<Box<Replayed>>,
}

/// What was replayed, again and again if the client has seen nothing of it.
#[derive(Debug)]
struct Replayed {
    /// The place that the client showed.
    seen: Place,
    /// The first event behind it.
    first: Place,
    times: u8,
}

/// Where a connection's client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has a socket in this session.
    Here(SessionKey),
    /// It has one, but nothing goes there before it has what it missed.
    Back(SessionKey),
    /// It has none.
    Away,
}

#[derive(Debug)]
struct Event {
    place: Place,
    packet: Packet,
}

impl Event {
    fn bytes(&self) -> usize {
        self.packet.size() + EVENT_OVERHEAD
    }

    fn own(&self) -> Option<OwnEvent> {
        OwnEvent::new(self.place, self.packet.clone())
    }
}

/// A room that was joined or left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// The first number of a broadcast that it counts for.
    pub since: u64,
    /// The room's name.
    pub room: String,
    /// Joined, or else left.
    pub joined: bool,
}

impl Stream {
    /// The stream of a connection whose client is in `session`. No broadcast before `number` was for
    /// it.
    pub fn new(pool: Arc<Pool>, tag: Tag, session: SessionKey, number: u64) -> Self {
        Self {
            pool,
            tag,
            state: OrderedMutex::new(State {
                presence: Presence::Here(session),
                start: Place::own(number, 0),
                count: 0,
                told: 0,
                events: VecDeque::new(),
                bytes: 0,
                taken: 0,
                is_short: false,
                lost: None,
                changes: VecDeque::new(),
                unknown_before: number,
                replayed: None,
            }),
        }
    }

    /// Its state, for one who holds the log.
    pub(crate) fn lock(&self) -> OrderedMutexGuard<'_, { rank::STREAM }, State> {
        self.state.lock()
    }

    /// Adds the event at `State::next_place`.
    pub fn push(&self, state: &mut State, place: Place, packet: Packet) {
        let event = Event { place, packet };
        state.count += 1;
        state.bytes += event.bytes();
        if state.events.capacity() == 0 {
            // Most connections are told who they are, and then nothing for long.
            state.events.reserve_exact(1);
        }
        state.events.push_back(event);
        self.fit(state);
    }

    /// Drops what is too much by now; returns what it wants of the pool.
    pub fn trim(&self) -> usize {
        let mut state = self.lock();
        self.fit(&mut state);
        match std::mem::take(&mut state.is_short) {
            true => MORE,
            false => state.taken,
        }
    }

    fn fit(&self, state: &mut State) {
        while state.bytes > self.pool.level() {
            state.drop_oldest();
        }
        self.account(state);
        while self.pool.is_overdrawn() && state.taken > 0 {
            state.is_short = true;
            state.drop_oldest();
            self.account(state);
        }
        if state.events.capacity() > 4 * (state.events.len() + 1) {
            // It may take less than it did.
            state.events.shrink_to_fit();
        }
    }

    /// Takes of the pool, or gives back, as the events change.
    fn account(&self, state: &mut State) {
        let taken = state.bytes.next_multiple_of(STEP);
        if taken > state.taken {
            self.pool.take(taken - state.taken);
        } else if taken < state.taken {
            self.pool.give_back(state.taken - taken);
        }
        state.taken = taken;
    }
}

impl Replayed {
    fn is(&self, seen: Place, first: Place) -> bool {
        (self.seen, self.first) == (seen, first)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.pool.give_back(self.state.get_mut().taken);
    }
}

impl State {
    /// Where the client is.
    pub fn presence(&self) -> Presence {
        self.presence
    }

    /// Notes where the client is.
    pub fn set_presence(&mut self, presence: Presence) {
        self.presence = presence;
    }

    /// The session of the socket, whether it gets events yet or not.
    pub fn session(&self) -> Option<SessionKey> {
        match self.presence {
            Presence::Here(session) | Presence::Back(session) => Some(session),
            Presence::Away => None,
        }
    }

    /// The place of the next event, when `number` comes next in the log.
    pub fn next_place(&self, number: u64) -> Place {
        Place::own(number, self.count + 1)
    }

    /// The place behind all that has been sent, when `number` comes next in the log.
    pub fn last_place(&self, number: u64) -> Place {
        Place::own(number, self.count)
    }

    /// The place of a client that shows `offset`. One that has not seen anything here shows none, or
    /// the place of an earlier connection.
    pub fn seen(&self, offset: Option<Place>) -> Place {
        offset.map_or(self.start, |place| place.max(self.start))
    }

    /// Whether all events behind `seen` are still there, and it is one that was given.
    pub fn reaches(&self, seen: Place) -> bool {
        let is_given = match seen.kind {
            Kind::Own(count) => count <= self.count,
            Kind::Broadcast => true,
        };
        is_given && self.lost.is_none_or(|lost| lost <= seen)
    }

    /// Whether all changes of rooms are known since the broadcast with this number.
    pub fn knows_rooms_since(&self, number: u64) -> bool {
        self.unknown_before <= number
    }

    /// The events behind `seen`.
    pub fn missed(&self, seen: Place) -> impl Iterator<Item = (Place, Packet)> {
        let events = self.events.iter().filter(move |event| event.place > seen);
        events.map(|event| (event.place, event.packet.clone()))
    }

    /// Whether the connection is in a room, if that is known here.
    pub fn is_in(&self, room: &str) -> Option<bool> {
        let mut changes = self.changes.iter().rev();
        changes
            .find(|change| change.room == room)
            .map(|change| change.joined)
    }

    /// Whether it was in a room when a broadcast was sent, if that has changed since.
    pub fn was_in(&self, room: &str, broadcast: u64) -> Option<bool> {
        let mut changes = self.changes.iter();
        changes
            .find(|change| change.since > broadcast && change.room == room)
            .map(|change| !change.joined)
    }

    /// The rooms that it has joined or left.
    pub fn changed_rooms(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(|change| &*change.room)
    }

    /// Where it began.
    pub(super) fn start(&self) -> Place {
        self.start
    }

    /// How many events it has been sent, but for volatile ones.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Where the last event stood.
    pub(super) fn last(&self) -> Option<Place> {
        self.events.back().map(|event| event.place).or(self.lost)
    }

    /// Where the last event stood that is gone.
    pub(super) fn lost(&self) -> Option<Place> {
        self.lost
    }

    /// The first number since which all changes of rooms are known.
    pub(super) fn unknown_before(&self) -> u64 {
        self.unknown_before
    }

    /// These changes, the oldest first.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// The events that other servers have not been told of; they are told now.
    pub(super) fn tell(&mut self) -> impl Iterator<Item = OwnEvent> {
        let told = std::mem::replace(&mut self.told, self.count);
        let is_news = move |event: &&Event| event.place.count().is_some_and(|count| count > told);
        self.events.iter().filter(is_news).filter_map(Event::own)
    }

    /// The events that are still there.
    pub(super) fn events(&self) -> impl Iterator<Item = OwnEvent> {
        self.events.iter().filter_map(Event::own)
    }

    /// What was known on another server, without the events.
    pub(super) fn restore(
        &mut self,
        count: u64,
        lost: Option<Place>,
        unknown_before: u64,
        changes: Vec<Change>,
    ) {
        self.count = count;
        self.told = count;
        self.lost = lost;
        self.unknown_before = unknown_before;
        self.changes = changes.into();
    }

    /// Whether a client that has seen everything up to `seen` may have `first`, or has dropped over it
    /// too often.
    pub fn may_replay(&self, seen: Place, first: Place) -> bool {
        let replayed = self.replayed.as_ref();
        replayed.is_none_or(|last| !last.is(seen, first) || last.times < MAX_REPLAYS)
    }

    /// Notes that a client that has seen everything up to `seen` is sent what follows, from `first` on.
    pub fn note_replay(&mut self, seen: Place, first: Place) {
        match &mut self.replayed {
            Some(last) if last.is(seen, first) => last.times = last.times.saturating_add(1),
            last => {
                let times = 1;
                *last = Some(Box::new(Replayed { seen, first, times }));
            }
        }
    }

    /// Forgets that it has ever been in rooms that are not `allowed`.
    pub fn forget_rooms(&mut self, allowed: impl Fn(&str) -> bool) {
        self.changes.retain(|change| allowed(&change.room));
    }

    /// Notes a change of rooms; `first` is the first number that the log still reaches.
    pub fn note(&mut self, change: Change, first: u64) {
        if change.since == self.unknown_before {
            // It counts for every broadcast that could have been for it.
            return;
        }
        self.changes.push_back(change);
        while let Some(oldest) = self.changes.front() {
            if oldest.since > first && self.changes.len() <= MAX_CHANGES {
                break;
            }
            self.unknown_before = oldest.since;
            self.changes.pop_front();
        }
        if self.changes.is_empty() {
            self.changes = VecDeque::new();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(event) = self.events.pop_front() else {
            return;
        };
        self.bytes -= event.bytes();
        self.lost = Some(event.place);
    }
}
