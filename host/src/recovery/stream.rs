//! What one connection alone was sent, and in which rooms it has been.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::{Place, place::Kind};
use crate::transport::{Packet, SessionKey};

/// What a stream may take at least, in bytes, however many there are.
const LEAST: usize = 4 << 10;

/// What a stream may take at most, in bytes: more than that does not get lost on the way.
const MOST: usize = 256 << 10;

/// What an event takes beside its packet's bytes: the entry itself, and what allocations cost.
const EVENT_OVERHEAD: usize = size_of::<Event>() + 64;

/// How many changes of rooms are kept.
const MAX_CHANGES: usize = 64;

/// The memory that all streams of a namespace share evenly.
#[derive(Debug)]
pub struct Share {
    bytes: usize,
    streams: AtomicUsize,
}

impl Share {
    /// So many bytes for all.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes,
            streams: AtomicUsize::new(0),
        }
    }

    /// What one stream may take.
    fn each(&self) -> usize {
        let streams = self.streams.load(Ordering::Relaxed).max(1);
        (self.bytes / streams).clamp(LEAST, MOST)
    }
}

/// The events to one connection alone. It outlives the sockets that the connection has: what is sent
/// to it while its client is away waits here.
#[derive(Debug)]
pub struct Stream {
    share: Arc<Share>,
    state: Mutex<State>,
}

/// What a stream is made of, under its lock.
#[derive(Debug)]
pub struct State {
    presence: Presence,
    /// The number of the next event.
    next: u64,
    events: VecDeque<Event>,
    /// What the events take, in bytes.
    bytes: usize,
    /// Where the last event stood that is gone.
    lost: Option<Place>,
    changes: VecDeque<Change>,
    /// Where broadcasts were at the last change of rooms that is not known any more.
    unknown_before: u64,
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
}

/// A room that was joined or left.
#[derive(Debug, Clone)]
pub struct Change {
    /// The number of the first broadcast that it counts for.
    pub since: u64,
    /// The room's name.
    pub room: String,
    /// Joined, or else left.
    pub joined: bool,
}

impl Stream {
    /// The stream of a connection whose client is in `session`, when so many broadcasts have been
    /// sent: no earlier one was for it.
    pub fn new(share: Arc<Share>, session: SessionKey, broadcasts: u64) -> Self {
        share.streams.fetch_add(1, Ordering::Relaxed);
        Self {
            share,
            state: Mutex::new(State {
                presence: Presence::Here(session),
                next: 0,
                events: VecDeque::new(),
                bytes: 0,
                lost: None,
                changes: VecDeque::new(),
                unknown_before: broadcasts,
            }),
        }
    }

    /// Its state, for one who holds the log.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Adds the event at `State::place`.
    pub fn push(&self, state: &mut State, place: Place, packet: Packet) {
        let event = Event { place, packet };
        let limit = self.share.each();
        state.next += 1;
        state.bytes += event.bytes();
        state.events.push_back(event);
        while state.bytes > limit {
            state.drop_oldest();
        }
        if state.events.capacity() > 4 * (state.events.len() + 1) {
            // Its share has become smaller.
            state.events.shrink_to_fit();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.share.streams.fetch_sub(1, Ordering::Relaxed);
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

    /// The place of the next event, when so many broadcasts have been sent.
    pub fn place(&self, broadcasts: u64) -> Place {
        Place::own(broadcasts, self.next)
    }

    /// The last place before what comes next, when so many broadcasts have been sent.
    pub fn last_place(&self, broadcasts: u64) -> Place {
        match self.next.checked_sub(1) {
            Some(last) => Place::own(broadcasts, last),
            None => Place::broadcast(broadcasts.saturating_sub(1)),
        }
    }

    /// Whether all events behind `seen` are still there, and it is one that was given.
    pub fn reaches(&self, seen: Place) -> bool {
        let is_given = match seen.kind {
            Kind::Own(number) => number < self.next,
            Kind::Broadcast => true,
        };
        is_given
            && self.lost.is_none_or(|lost| lost <= seen)
            && self.unknown_before <= seen.next_broadcast()
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

    /// Forgets that it has ever been in rooms that are not `allowed`.
    pub fn forget_rooms(&mut self, allowed: impl Fn(&str) -> bool) {
        self.changes.retain(|change| allowed(&change.room));
    }

    /// Notes a change of rooms; `first` is the first broadcast that is still in the log.
    pub fn note(&mut self, change: Change, first: u64) {
        if change.since == self.unknown_before {
            // No broadcast was for it before.
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
