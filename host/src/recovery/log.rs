//! The broadcasts of one namespace, as long as somebody may have missed them.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Former, Place, place::Tag, stream::State};
use crate::{
    config,
    transport::{Packet, Selection},
};

/// What an entry takes beside the bytes of its packet and its selection.
const ENTRY_OVERHEAD: usize = 256;

/// How many connections that dropped are kept; the oldest goes first.
const MAX_FORMER: usize = 10_000;

/// The broadcasts that were sent, oldest first, and the connections that dropped. It is bounded by
/// the number, the size and the age of the events.
pub struct Log {
    limits: config::Recovery,
    tag: Tag,
    events: VecDeque<Event>,
    /// The number of the first event that is still there.
    first: u64,
    /// What the events take, in bytes.
    bytes: usize,
    former: HashMap<String, (Instant, Former)>,
    /// Who dropped when. Some may have come back since.
    dropped: VecDeque<(Instant, String)>,
}

struct Event {
    at: Instant,
    to: Selection,
    packet: Packet,
    bytes: usize,
}

impl Log {
    /// An empty log whose places have this tag.
    pub fn new(limits: config::Recovery, tag: Tag) -> Self {
        Self {
            limits,
            tag,
            events: VecDeque::new(),
            first: 0,
            bytes: 0,
            former: HashMap::new(),
            dropped: VecDeque::new(),
        }
    }

    /// Whether anybody may come back for an event that is sent to nobody now, or is just coming.
    pub fn is_waited_for(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// The same, without those who have been away for too long.
    pub fn is_waited_for_still(&mut self) -> bool {
        self.forget(Instant::now());
        self.is_waited_for()
    }

    /// The number of the first broadcast that is still there.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number of the next broadcast.
    pub fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds a broadcast; `encode` makes its packet, with its place.
    pub fn push(&mut self, to: Selection, encode: impl FnOnce(&str) -> Packet) -> Packet {
        let packet = encode(&Place::broadcast(self.next()).write(self.tag));
        let now = Instant::now();
        let bytes = packet.size() + to.size() + ENTRY_OVERHEAD;
        self.events.push_back(Event {
            at: now,
            to,
            packet: packet.clone(),
            bytes,
        });
        self.bytes += bytes;
        let limits = &self.limits;
        while let Some(oldest) = self.events.front() {
            let fits = self.events.len() <= limits.max_events
                && self.bytes <= limits.max_bytes.as_usize()
                && now.duration_since(oldest.at) <= limits.max_age;
            if fits {
                break;
            }
            self.bytes -= oldest.bytes;
            self.first += 1;
            self.events.pop_front();
        }
        self.forget(now);
        packet
    }

    /// Gives back the memory of connections that have been gone for too long, though nothing is sent
    /// any more; and that of the events, where there `is_empty`: nobody is left who may miss them.
    /// Returns how many may come back still.
    pub fn sweep(&mut self, is_empty: bool) -> usize {
        self.forget(Instant::now());
        if self.is_waited_for() {
            return self.former.len();
        }
        self.dropped = VecDeque::new();
        self.former = HashMap::new();
        if is_empty {
            self.first = self.next();
            self.events = VecDeque::new();
            self.bytes = 0;
        }
        0
    }

    /// Keeps a connection that dropped.
    pub fn keep(&mut self, former: Former) {
        let now = Instant::now();
        self.dropped.push_back((now, former.pid.clone()));
        self.former.insert(former.pid.clone(), (now, former));
        self.forget(now);
    }

    /// The connection of a client that is back and has seen the events up to `seen`, if nothing
    /// is missing since. It can come back once.
    pub fn take(&mut self, pid: &str, seen: Place) -> Option<Former> {
        let now = Instant::now();
        self.forget(now);
        let (_, former) = self.former.get(pid)?;
        if !self.reaches(seen) || !former.stream.lock().reaches(seen) {
            return None;
        }
        let (_, former) = self.former.remove(pid)?;
        // Until it has caught up, events must be kept although nobody is there for them.
        self.dropped.push_back((now, pid.to_owned()));
        Some(former)
    }

    /// Whether all broadcasts behind `seen` are still there, and none of them is yet to come.
    pub fn reaches(&self, seen: Place) -> bool {
        (self.first..=self.next()).contains(&seen.next_broadcast())
    }

    /// The broadcasts behind `seen`, which it reaches, that were for `former` with its stream's state.
    pub fn missed(&self, former: &Former, stream: &State, seen: Place) -> Vec<(Place, Packet)> {
        let skipped = seen.next_broadcast() - self.first;
        let events = self.events.iter().enumerate().skip(skipped as usize);
        events
            .map(|(index, event)| (self.first + index as u64, event))
            .filter(|(number, event)| former.was_selected(stream, &event.to, *number))
            .map(|(number, event)| (Place::broadcast(number), event.packet.clone()))
            .collect()
    }

    /// Forgets connections that have been gone for too long, or are too many.
    fn forget(&mut self, now: Instant) {
        let max_age: Duration = self.limits.max_age;
        while let Some((at, pid)) = self.dropped.front() {
            if now.duration_since(*at) <= max_age && self.dropped.len() <= MAX_FORMER {
                return;
            }
            // It may have come back and dropped again.
            if self.former.get(pid).is_some_and(|(kept, _)| kept == at) {
                self.former.remove(pid);
            }
            self.dropped.pop_front();
        }
    }
}
