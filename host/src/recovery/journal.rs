//! What one namespace sent: its broadcasts, and what it sent to each connection alone.

use std::sync::{Arc, PoisonError};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};

use super::{
    Former, Log, Place, Stream,
    place::Tag,
    stream::{Change, Presence, Share},
};
use crate::{
    config,
    transport::{Packet, SessionKey},
};

/// What a namespace sent, for those who come back. The module says how its locks give events one
/// order. What others do under them (`encode`, `send`, `join`) comes before or after each change as
/// a whole, so that a panic there costs its own event only, and the locks let everybody else in.
pub struct Journal {
    log: ShardedLock<Log>,
    tag: Tag,
    share: Arc<Share>,
}

/// What a connection that comes back has missed.
pub struct Replay {
    former: Former,
    events: Vec<(Place, Packet)>,
    /// The last place that has been looked at.
    seen: Place,
}

impl Journal {
    /// An empty one.
    pub fn new(limits: config::Recovery) -> Self {
        let tag = Tag::random();
        Self {
            share: Arc::new(Share::new(limits.max_bytes.as_usize())),
            log: ShardedLock::new(Log::new(limits, tag)),
            tag,
        }
    }

    /// The stream of a new connection.
    pub fn begin(&self, session: SessionKey) -> Arc<Stream> {
        let broadcasts = self.read().next();
        Arc::new(Stream::new(self.share.clone(), session, broadcasts))
    }

    /// Adds an event to one connection; `encode` makes its packet, with its place. `send` puts it
    /// into the outbox of the connection's client, if that is there.
    pub fn emit<R>(
        &self,
        stream: &Stream,
        encode: impl FnOnce(&str) -> Packet,
        send: impl FnOnce(SessionKey, &Packet) -> R,
    ) -> Option<R> {
        let log = self.read();
        let mut state = stream.lock();
        let place = state.place(log.next());
        let packet = encode(&place.write(self.tag));
        let sent = match state.presence() {
            Presence::Here(session) => Some(send(session, &packet)),
            Presence::Back(_) | Presence::Away => None,
        };
        stream.push(&mut state, place, packet);
        sent
    }

    /// The log, for one who sends a broadcast: held while it enters the outboxes.
    pub fn broadcasts(&self) -> ShardedLockWriteGuard<'_, Log> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a connection's rooms. `change` does it, with the session of its socket.
    pub fn change_rooms(
        &self,
        stream: &Stream,
        rooms: Vec<String>,
        joined: bool,
        change: impl FnOnce(SessionKey, Vec<String>),
        is_in: impl Fn(SessionKey, &str) -> bool,
    ) {
        // No broadcast comes in between, so that it is known which ones it counts for.
        let log = self.read();
        let mut state = stream.lock();
        let Some(session) = state.session() else {
            return;
        };
        for room in &rooms {
            let was_in = state.is_in(room).unwrap_or_else(|| is_in(session, room));
            if was_in != joined {
                let change = Change {
                    since: log.next(),
                    room: room.clone(),
                    joined,
                };
                state.note(change, log.first());
            }
        }
        change(session, rooms);
    }

    /// Notes that a connection has lost its socket in `session`, and keeps what `former` makes of
    /// it. It is still in its rooms.
    pub fn end(
        &self,
        stream: &Stream,
        session: SessionKey,
        former: impl FnOnce() -> Option<Former>,
    ) {
        let mut log = self.broadcasts();
        let mut state = stream.lock();
        if state.session() != Some(session) {
            // It is back already, elsewhere.
            return;
        }
        state.set_presence(Presence::Away);
        drop(state);
        if let Some(former) = former() {
            log.keep(former);
        }
    }

    /// The connection of a client that is back and shows its private id and the last place that it
    /// has seen.
    pub fn take(&self, pid: &str, place: &str) -> Option<(Former, Place)> {
        let seen = Place::read(self.tag, place)?;
        let former = self.broadcasts().take(pid, seen)?;
        Some((former, seen))
    }

    /// Gives a connection that has come back its new socket, and `join`s its rooms. Nothing goes
    /// there before [`Journal::catch_up`]. None if something is gone that it has missed.
    pub fn resume(
        &self,
        session: SessionKey,
        former: Former,
        seen: Place,
        join: impl FnOnce(),
    ) -> Option<Replay> {
        let log = self.broadcasts();
        former.stream.lock().set_presence(Presence::Back(session));
        join();
        let mut replay = Replay {
            former,
            events: Vec::new(),
            seen,
        };
        replay.extend(&log).then_some(replay)
    }

    /// Sends a connection what it missed, in order, and then what is sent to it. False if some of it
    /// is gone, or `send` fails: a part would pass for the whole.
    pub fn catch_up(
        &self,
        session: SessionKey,
        mut replay: Replay,
        send: impl FnOnce(&[Packet]) -> bool,
        leave_waiting_room: impl FnOnce(),
    ) -> bool {
        let log = self.broadcasts();
        if !replay.extend(&log) {
            return false;
        }
        let mut events = replay.events;
        events.sort_unstable_by_key(|(place, _)| *place);
        let packets: Vec<_> = events.into_iter().map(|(_, packet)| packet).collect();
        let complete = send(&packets);
        let mut state = replay.former.stream.lock();
        if state.session() == Some(session) {
            state.set_presence(Presence::Here(session));
        }
        leave_waiting_room();
        complete
    }

    fn read(&self) -> ShardedLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replay {
    /// Adds what has been sent since it was last looked at; false if some of that is gone.
    fn extend(&mut self, log: &Log) -> bool {
        let state = self.former.stream.lock();
        if !log.reaches(self.seen) || !state.reaches(self.seen) {
            return false;
        }
        let own = state.missed(self.seen);
        self.events.extend(own);
        self.events
            .extend(log.missed(&self.former, &state, self.seen));
        self.seen = state.last_place(log.next());
        true
    }
}
