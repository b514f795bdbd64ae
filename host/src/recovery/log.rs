//! The broadcasts of one namespace, as long as somebody may have missed them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use crossbeam_utils::sync::ShardedLock;

use super::{
    Former, Place, SavedBroadcast, SavedLog,
    index::{Index, NAME_OVERHEAD},
    place::Notation,
    pool::{MORE, Pool},
    stream::State,
};
use crate::{
    clock::Moment,
    cluster::EntryId,
    config,
    ordered_lock::{Ordered, rank},
    transport::{Packet, Selection, SocketKey},
};

/// What an entry takes beside the bytes of its packet and its selection.
const ENTRY_OVERHEAD: usize = 256;

/// The broadcasts that were sent, oldest first. They are bounded by their number, size and age.
pub(crate) struct Log {
    limits: config::Recovery,
    notation: Notation,
    events: VecDeque<Event>,
    index: Index,
    /// The first number behind the last event that is gone.
    first: u64,
    /// The next number.
    next: AtomicU64,
    /// What the events take of the pool, in bytes.
    bytes: usize,
    pool: Arc<Pool>,
    /// Events went that it could have kept, had others taken less.
    is_short: bool,
    /// How many connections may come back, or are about to.
    awaited: Arc<AtomicUsize>,
}

/// A log that threads share. Readers on different threads share no cache line. A panic under its
/// locks comes before or after each change as a whole, so they let everybody else in.
pub(crate) type SharedLog = Ordered<{ rank::LOG }, ShardedLock<Log>>;

struct Event {
    number: u64,
    at: Instant,
    to: Selection,
    packet: Packet,
    bytes: usize,
}

/// A connection that may come back to a log, or is about to: events are kept for it although nobody
/// is there for them.
#[derive(Debug)]
pub(crate) struct Awaited(Arc<AtomicUsize>);

impl Drop for Log {
    fn drop(&mut self) {
        self.pool.give_back(self.bytes);
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Broadcasts that a connection missed.
pub(crate) struct Missed {
    /// In order.
    pub events: Vec<(Place, Packet)>,
    /// The first number that has not been looked at; none if there is no other.
    pub rest: Option<u64>,
}

impl Log {
    /// An empty log whose places are written so, and whose events take of this pool.
    pub(crate) fn new(limits: config::Recovery, notation: Notation, pool: Arc<Pool>) -> Self {
        Self {
            limits,
            notation,
            events: VecDeque::new(),
            index: Index::default(),
            first: 0,
            next: AtomicU64::new(0),
            bytes: 0,
            pool,
            is_short: false,
            awaited: Arc::default(),
        }
    }

    /// Whether anybody may come back for an event that is sent to nobody now, or is just coming.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.awaited() > 0
    }

    /// How many may come back, or are about to.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Keeps events for one more connection.
    pub(crate) fn wait(&self) -> Awaited {
        self.awaited.fetch_add(1, Ordering::Relaxed);
        Awaited(self.awaited.clone())
    }

    /// The first number that it reaches: every broadcast from there on is still there.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// The first number that counts for a connection that begins. No broadcast before `performed` is still to
    /// come.
    pub(crate) fn begin(&self, performed: u64) -> u64 {
        match self.notation {
            // It takes one, so that the places of earlier connections stand before its own.
            Notation::Tagged(_) => self.next.fetch_add(1, Ordering::AcqRel) + 1,
            // Its own have a tag of theirs.
            Notation::Entries => self.go_on_from(performed),
        }
    }

    /// No broadcast before `performed` is still to come, also where this namespace had none lately. Returns the
    /// next number.
    pub(crate) fn go_on_from(&self, performed: u64) -> u64 {
        let next = self.next.fetch_max(performed, Ordering::AcqRel);
        next.max(performed)
    }

    /// The number of a broadcast: that of its `entry`, or the next one.
    fn number(&mut self, entry: Option<EntryId>) -> u64 {
        let next = self.next.get_mut();
        let number = entry.map_or(*next, EntryId::number);
        *next = number + 1;
        number
    }

    /// Adds a broadcast, of a cluster that in its `entry`; `encode` makes its packet, with its place.
    pub(crate) fn push(
        &mut self,
        entry: Option<EntryId>,
        to: Selection,
        encode: impl FnOnce(&str) -> Packet,
    ) -> Packet {
        let number = self.number(entry);
        let packet = encode(&self.notation.write(number));
        let now = Instant::now();
        self.add(number, now, to, packet.clone());
        self.forget(now);
        packet
    }

    fn add(&mut self, number: u64, at: Instant, to: Selection, packet: Packet) {
        let names = to.rooms.len() + to.sockets.len();
        // The index has the text of the names, too.
        let bytes = packet.size() + 2 * to.size() + names * NAME_OVERHEAD + ENTRY_OVERHEAD;
        self.index.add(number, &to);
        self.events.push_back(Event {
            number,
            at,
            to,
            packet,
            bytes,
        });
        self.bytes += bytes;
        self.pool.take(bytes);
    }

    /// Gives a broadcast that is not kept its place: none of those who missed it gets it later.
    pub(crate) fn pass(
        &mut self,
        entry: Option<EntryId>,
        encode: impl FnOnce(&str) -> Packet,
    ) -> Packet {
        let number = self.number(entry);
        encode(&self.notation.write(number))
    }

    /// How places of it are written.
    pub(super) fn notation(&self) -> Notation {
        self.notation
    }

    /// All of it, for the process that follows; none in a cluster, whose stream has it. `named` says by which
    /// public id the sender is known that a broadcast left out, if that may come back.
    pub(super) fn save<'a>(
        &self,
        namespace: &str,
        now: Moment,
        named: impl Fn(SocketKey) -> Option<&'a str>,
    ) -> Option<(SavedLog, Vec<SavedBroadcast>)> {
        let Notation::Tagged(tag) = self.notation else {
            return None;
        };
        let log = SavedLog {
            namespace: namespace.to_owned(),
            tag,
            first: self.first,
            next: self.next(),
        };
        let broadcast = |event: &Event| {
            let except = event.to.except_socket.and_then(&named);
            let place = (namespace, event.number, now.told(event.at));
            SavedBroadcast::new(place, &event.to, except, event.packet.clone())
        };
        Some((log, self.events.iter().map(broadcast).collect()))
    }

    /// Goes on with what the process before has kept. Nobody is here yet.
    pub(super) fn restore(&mut self, log: &SavedLog, broadcasts: Vec<SavedBroadcast>, now: Moment) {
        self.clear();
        self.notation = Notation::Tagged(log.tag);
        self.first = log.first;
        *self.next.get_mut() = log.next;
        for broadcast in broadcasts {
            let (number, at) = (broadcast.number, now.meant(broadcast.at));
            let (to, packet) = broadcast.into_parts();
            self.add(number, at, to, packet);
        }
        self.forget(Instant::now());
    }

    /// It has all broadcasts from this number on, and none before.
    pub(crate) fn start_at(&mut self, number: u64) {
        self.first = number.max(self.first);
        let next = self.next.get_mut();
        *next = number.max(*next);
    }

    /// Broadcasts are missing behind those that it has: nobody gets over that gap.
    pub(crate) fn interrupt(&mut self) {
        self.clear();
        // No place that a client has seen is so far.
        self.first = self.next() + 1;
        *self.next.get_mut() = self.first;
    }

    fn clear(&mut self) {
        self.events = VecDeque::new();
        self.index = Index::default();
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }

    /// Whether there is something to [`Log::sweep`]. With `is_unused` nobody is here who may miss
    /// anything.
    pub(crate) fn needs_sweep(&self, is_unused: bool) -> bool {
        let Some(oldest) = self.events.front() else {
            return false;
        };
        self.is_of_no_use(is_unused)
            || oldest.at.elapsed() > self.limits.max_age
            || self.bytes > self.pool.level()
            || self.is_short
    }

    /// Whether nobody may miss anything that it has. In a cluster clients of other servers may come here.
    fn is_of_no_use(&self, is_unused: bool) -> bool {
        let is_alone = matches!(self.notation, Notation::Tagged(_));
        is_alone && is_unused && !self.is_waited_for()
    }

    /// What the events take, in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it wants of the pool, by what has been since it was last asked.
    pub(crate) fn wants(&mut self) -> usize {
        match std::mem::take(&mut self.is_short) {
            true => MORE,
            false => self.bytes,
        }
    }

    /// Gives back the memory of events that nobody may miss any more.
    pub(crate) fn sweep(&mut self, is_unused: bool) {
        if self.is_of_no_use(is_unused) {
            self.first = self.next();
            self.clear();
        } else {
            self.forget(Instant::now());
        }
    }

    /// Whether all broadcasts from `number` on are still there, and none of them is yet to come.
    pub(crate) fn reaches(&self, number: u64) -> bool {
        (self.first..=self.next()).contains(&number)
    }

    /// Of the broadcasts from `number` on, which it reaches, those that were for `former` with its
    /// stream's state. At most `most` are looked at.
    pub(crate) fn missed(
        &self,
        former: &Former,
        stream: &State,
        number: u64,
        most: usize,
    ) -> Missed {
        let rooms = former.rooms.iter().map(String::as_str);
        let names = rooms
            .chain(stream.changed_rooms())
            .chain([former.id.as_str()]);
        let numbers = self.index.since(number, names, most);
        let rest = match numbers.last() {
            Some(last) if numbers.len() == most => Some(last + 1),
            _ => None,
        };
        let events = numbers
            .into_iter()
            .filter_map(|number| self.event(number))
            .filter(|event| former.was_selected(stream, &event.to, event.number))
            .map(|event| (Place::broadcast(event.number), event.packet.clone()))
            .collect();
        Missed { events, rest }
    }

    fn event(&self, number: u64) -> Option<&Event> {
        let found = self
            .events
            .binary_search_by_key(&number, |event| event.number);
        self.events.get(found.ok()?)
    }

    /// Forgets events that are too old, too many or too large together.
    fn forget(&mut self, now: Instant) {
        let limits = &self.limits;
        while let Some(oldest) = self.events.front() {
            let fits = self.events.len() <= limits.max_events
                && self.bytes <= self.pool.level()
                && now.duration_since(oldest.at) <= limits.max_age;
            if fits && !self.pool.is_overdrawn() {
                break;
            }
            self.is_short |= fits;
            self.bytes -= oldest.bytes;
            self.pool.give_back(oldest.bytes);
            self.first = oldest.number + 1;
            self.index.remove_oldest(oldest.number, &oldest.to);
            self.events.pop_front();
        }
    }
}
