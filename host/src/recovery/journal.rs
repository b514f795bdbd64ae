//! What one namespace sent: its broadcasts, and what it sent to each connection alone.

use std::{
    ops::DerefMut,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{
    Carried, Common, Former, Log, OwnEvent, Place, Stream,
    former::Waiting,
    log::{Awaited, Missed, SharedLog},
    place::NO_PLACE,
    stream::{Change, Presence, State},
};
use crate::{
    address::ClientAddress,
    transport::{Packet, SessionKey},
    user::UserId,
};

/// So many broadcasts are looked at under the log's lock in one go, when a client comes back.
const CHUNK: usize = 256;

/// So many streams are looked at in one go for those that are gone.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// What a namespace sent, for those who come back. The module says how its locks give events one
/// order. What others do under them (`encode`, `send`, `join`) comes before or after each change as
/// a whole, so that a panic there costs its own event only, and the locks let everybody else in.
pub(crate) struct Journal {
    pub(super) log: Arc<SharedLog>,
    pub(super) streams: Mutex<Streams>,
    pub(super) common: Arc<Common>,
}

/// The streams of all connections that are here or may come back, and some that are gone.
#[derive(Default)]
pub(super) struct Streams {
    all: Vec<Weak<Stream>>,
    /// The one that was looked at last.
    next: usize,
}

/// A connection that a client has back.
pub struct Returning {
    /// The connection.
    pub former: Former,
    seen: Place,
    awaited: Awaited,
}

/// What a connection that comes back has missed.
pub struct Replay {
    former: Former,
    /// The place of the last event that its client has seen.
    from: Place,
    events: Vec<(Place, Packet)>,
    /// Where its own events have been looked at.
    seen: Place,
    /// The first number of a broadcast that has not been looked at.
    next: u64,
    /// Has the log keep events until it has caught up.
    _awaited: Awaited,
}

impl Journal {
    /// An empty one of a server.
    pub(crate) fn new(common: Arc<Common>) -> Self {
        let (limits, pool) = (common.limits.clone(), common.broadcasts.clone());
        let log = Log::new(limits, common.notation(), pool);
        Self {
            log: Arc::new(SharedLog::new(log)),
            streams: Mutex::default(),
            common,
        }
    }

    /// The stream of a new connection.
    pub(crate) fn begin(&self, session: SessionKey) -> Arc<Stream> {
        let log = self.log.read();
        let number = log.begin(self.common.performed());
        let (pool, tag) = (self.common.own.clone(), log.notation().tag());
        drop(log);
        let stream = Arc::new(Stream::new(pool, tag, session, number));
        self.streams.lock().add(&stream);
        stream
    }

    /// Adds an event to one connection; `encode` makes its packet, with its place. `send` puts it
    /// into the outbox of the connection's client, if that is there. A volatile event is not kept,
    /// and has the place of what came before it.
    pub(crate) fn emit<R>(
        &self,
        stream: &Stream,
        is_volatile: bool,
        encode: impl FnOnce(&str) -> Packet,
        send: impl FnOnce(SessionKey, &Packet) -> R,
    ) -> Option<R> {
        let log = self.log.read();
        let mut state = stream.lock();
        let here = match state.presence() {
            Presence::Here(session) => Some(session),
            Presence::Back(_) | Presence::Away => None,
        };
        if is_volatile {
            let place = state.last_place(log.next());
            return here.map(|session| send(session, &encode(&self.write(place, stream))));
        }
        let place = state.next_place(log.next());
        let packet = encode(&self.write(place, stream));
        let sent = here.map(|session| send(session, &packet));
        stream.push(&mut state, place, packet);
        sent
    }

    /// Whether clients are given no places for now.
    pub(crate) fn is_ahead(&self) -> bool {
        self.common.is_ahead()
    }

    fn write(&self, place: Place, stream: &Stream) -> String {
        match self.is_ahead() {
            true => NO_PLACE.to_owned(),
            false => place.write(stream.tag),
        }
    }

    /// The log, for one who sends a broadcast: held while it enters the outboxes.
    pub(crate) fn broadcasts(&self) -> impl DerefMut<Target = Log> {
        self.log.write()
    }

    /// The namespace gets all broadcasts from this number on.
    pub(crate) fn start_at(&self, number: u64) {
        self.broadcasts().start_at(number);
    }

    /// Entries of the cluster's stream were lost: nobody gets over that gap.
    pub(crate) fn interrupt(&self) {
        self.broadcasts().interrupt();
    }

    /// Whether anybody may come back.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.common.formers.forget();
        self.log.read().is_waited_for()
    }

    /// Gives back the memory of what nobody may miss any more; `is_unused` if nobody is connected.
    /// Returns how many may come back still. [`Common::share_out`] is for when all journals have been
    /// swept.
    pub(crate) fn sweep(&self, is_unused: bool) -> usize {
        let Common {
            formers,
            broadcasts,
            own,
            ..
        } = &*self.common;
        formers.forget();
        let log = self.log.read();
        let (awaited, needs_sweep) = (log.awaited(), log.needs_sweep(is_unused));
        drop(log);
        if needs_sweep || broadcasts.is_scarce() {
            let mut log = self.broadcasts();
            log.sweep(is_unused);
            broadcasts.note([log.wants()]);
        }
        let mut streams = self.streams.lock();
        streams.forget();
        let alive = own.is_scarce().then(|| streams.alive());
        drop(streams);
        own.note(alive.iter().flatten().map(|stream| stream.trim()));
        awaited
    }

    /// Changes a connection's rooms. `change` does it, with the session of its socket. False if that says
    /// that it may not be.
    pub(crate) fn change_rooms(
        &self,
        stream: &Stream,
        rooms: Vec<String>,
        joined: bool,
        change: impl FnOnce(SessionKey, Vec<String>) -> bool,
        is_in: impl Fn(SessionKey, &str) -> bool,
    ) -> bool {
        // No broadcast comes in between, so that it is known which ones it counts for.
        let log = self.log.read();
        let mut state = stream.lock();
        let Some(session) = state.session() else {
            return true;
        };
        let mut changed = rooms.clone();
        changed.retain(|room| {
            let was_in = state.is_in(room).unwrap_or_else(|| is_in(session, room));
            was_in != joined
        });
        if !change(session, rooms) {
            return false;
        }
        for room in changed {
            let change = Change {
                since: log.next(),
                room,
                joined,
            };
            state.note(change, log.first());
        }
        true
    }

    /// Notes that a connection has lost its socket in `session`, and keeps what `former` makes of
    /// it. It is still in its rooms.
    pub(crate) fn end(
        &self,
        stream: &Stream,
        session: SessionKey,
        former: impl FnOnce() -> Option<Former>,
    ) {
        // No broadcast comes in between: all that it misses is behind the place where it dropped.
        let log = self.log.read();
        let mut state = stream.lock();
        if state.session() != Some(session) {
            // It is back already, elsewhere.
            return;
        }
        state.set_presence(Presence::Away);
        let dropped = state.last_place(log.next());
        drop(state);
        let Some(former) = former() else {
            return;
        };
        let waiting = Waiting {
            former,
            dropped,
            log: Arc::downgrade(&self.log),
            awaited: log.wait(),
        };
        drop(log);
        self.common.formers.keep(waiting);
    }

    /// The connection of a client that is back as `user` and shows its private id and, if it has
    /// seen an event, the place of the last one. It can come back once.
    pub(crate) fn take(
        &self,
        pid: &str,
        offset: Option<&str>,
        user: Option<&UserId>,
    ) -> Option<Returning> {
        let formers = &self.common.formers;
        let taken = formers.take(pid, |waiting| {
            self.has(waiting) && waiting.former.user() == user
        })?;
        let own = taken.waiting.former.stream.tag;
        let log = self.log.read();
        let offset = offset.map(|text| log.notation().read(own, text));
        let seen = taken.waiting.seen(offset, &log);
        drop(log);
        let Some(seen) = seen else {
            formers.put_back(taken);
            return None;
        };
        let Waiting {
            former, awaited, ..
        } = taken.waiting;
        Some(Returning {
            former,
            seen,
            awaited,
        })
    }

    /// A connection that was on another server, with the events that it alone was sent there, for its client
    /// at this address, which shows `offset`.
    pub(crate) fn adopt(
        &self,
        carried: Carried,
        events: Vec<OwnEvent>,
        offset: Option<&str>,
        address: ClientAddress,
    ) -> Option<Returning> {
        if carried.own.is_none() && offset.is_none() {
            // Nobody knows when that began, so nobody knows what was sent before it.
            return None;
        }
        let log = self.log.read();
        // Its other server may have counted from what this namespace had no part in.
        log.go_on_from(self.common.performed());
        let pool = self.common.own.clone();
        let former = carried.into_former(events, log.first(), address, pool)?;
        let offset = offset.map(|text| log.notation().read(former.stream.tag, text));
        let waiting = Waiting {
            former,
            dropped: Place::own(log.next(), 0),
            log: Arc::downgrade(&self.log),
            awaited: log.wait(),
        };
        let seen = waiting.seen(offset, &log)?;
        let Waiting {
            former, awaited, ..
        } = waiting;
        Some(Returning {
            former,
            seen,
            awaited,
        })
    }

    /// What other servers are to know of a connection, and the events that they have not been told of.
    pub(crate) fn carry(
        &self,
        former: &Former,
        server: &str,
        namespace: &str,
    ) -> (Carried, Vec<OwnEvent>) {
        let _log = self.log.read();
        let mut state = former.stream.lock();
        let carried = Carried::of(former, &state, server, namespace);
        let events = state.tell().collect();
        (carried, events)
    }

    /// Whether it is one of this namespace's.
    pub(super) fn has(&self, waiting: &Waiting) -> bool {
        std::ptr::eq(waiting.log.as_ptr(), Arc::as_ptr(&self.log))
    }

    /// Gives a connection that has come back its new socket, and `join`s its rooms. Nothing goes
    /// there before [`Journal::catch_up`]. None if something is gone that it has missed, or if it drops
    /// whenever it gets that.
    pub(crate) fn resume(
        &self,
        session: SessionKey,
        returning: Returning,
        join: impl FnOnce(),
    ) -> Option<Replay> {
        let mut replay = Replay::new(returning);
        if !self.follow(&mut replay) || !replay.may_begin() {
            return None;
        }
        // No broadcast comes in between, and finds it in its rooms but not out of reach.
        let _log = self.log.read();
        let stream = &replay.former.stream;
        stream.lock().set_presence(Presence::Back(session));
        join();
        Some(replay)
    }

    /// Sends a connection what it missed, in order, and then what is sent to it; `rooms` are those
    /// that it is in by now. False if some of it is gone, or `send` fails: a part would pass for the
    /// whole.
    pub(crate) fn catch_up(
        &self,
        session: SessionKey,
        mut replay: Replay,
        rooms: impl FnOnce() -> Vec<String>,
        send: impl FnOnce(&[Packet]) -> bool,
        leave_waiting_room: impl FnOnce(),
    ) -> bool {
        if !self.follow(&mut replay) {
            return false;
        }
        // What is still to be looked at has come since just now.
        let log = self.log.read();
        let stream = replay.former.stream.clone();
        let mut state = stream.lock();
        replay.former.rooms = rooms();
        if replay.extend(&log, &state, usize::MAX).is_none() {
            return false;
        }
        if let Some(first) = replay.first() {
            state.note_replay(replay.from, first);
        }
        let complete = send(&replay.into_packets());
        if state.session() == Some(session) {
            state.set_presence(Presence::Here(session));
        }
        leave_waiting_room();
        complete
    }

    /// Adds to a replay what has been sent until now, with pauses for others. False if some of that
    /// is gone.
    fn follow(&self, replay: &mut Replay) -> bool {
        let stream = replay.former.stream.clone();
        loop {
            let log = self.log.read();
            match replay.extend(&log, &stream.lock(), CHUNK) {
                Some(true) => return true,
                Some(false) => {}
                None => return false,
            }
        }
    }
}

impl Streams {
    pub(super) fn add(&mut self, stream: &Arc<Stream>) {
        self.all.push(Arc::downgrade(stream));
    }

    /// Forgets some of those that are gone.
    fn forget(&mut self) {
        for _ in 0..self.all.len().min(FORGOTTEN_AT_ONCE) {
            self.next = (self.next + 1) % self.all.len();
            if self.all[self.next].strong_count() == 0 {
                self.all.swap_remove(self.next);
            }
            if self.all.is_empty() {
                break;
            }
        }
        if self.all.capacity() > 4 * (self.all.len() + 1) {
            self.all.shrink_to_fit();
        }
    }

    fn alive(&self) -> Vec<Arc<Stream>> {
        self.all.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Replay {
    fn new(returning: Returning) -> Self {
        let Returning {
            former,
            seen,
            awaited,
        } = returning;
        Self {
            former,
            from: seen,
            events: Vec::new(),
            seen,
            next: seen.next_number(),
            _awaited: awaited,
        }
    }

    /// The connection that comes back.
    pub fn former(&self) -> &Former {
        &self.former
    }

    /// Adds what has been sent since it was last looked at, but no more than `most` broadcasts.
    /// Whether that is all; none if some of it is gone.
    fn extend(&mut self, log: &Log, state: &State, most: usize) -> Option<bool> {
        let is_there = log.reaches(self.next)
            && state.reaches(self.seen)
            && state.knows_rooms_since(self.next);
        if !is_there {
            return None;
        }
        self.events.extend(state.missed(self.seen));
        self.seen = state.last_place(log.next());
        let Missed { events, rest } = log.missed(&self.former, state, self.next, most);
        self.events.extend(events);
        self.next = rest.unwrap_or_else(|| log.next());
        Some(rest.is_none())
    }

    /// Where the first event stands that it gets.
    fn first(&self) -> Option<Place> {
        self.events.iter().map(|(place, _)| *place).min()
    }

    fn may_begin(&self) -> bool {
        let state = self.former.stream.lock();
        self.first()
            .is_none_or(|first| state.may_replay(self.from, first))
    }

    fn into_packets(mut self) -> Vec<Packet> {
        self.events.sort_unstable_by_key(|(place, _)| *place);
        self.events.into_iter().map(|(_, packet)| packet).collect()
    }
}
