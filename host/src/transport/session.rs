//! What the front knows of each client's engine.io session.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::{net::tcp::OwnedWriteHalf, time::sleep};

use super::{
    frame,
    handshake::{Handshake, Part},
    introduction::{Answer, Introduction, Introductions},
    outbox::{Capacity, Outbox},
    passage::{Passage, Reading},
    polls::Polls,
    receivers::Receivers,
};
use crate::error::{ConnectError, WireError};

/// How long the first events of a connection stay behind the answer to its CONNECT. Clients that wait
/// for one message after the other, as those of the public protocol tests, lose what they read together
/// with the answer; Node's server writes the two apart.
const INTRODUCTION_PAUSE: Duration = Duration::from_millis(10);

/// The sessions by the id that their requests carry: those that began with polling, and those that
/// have joined a namespace. A session leaves the table when socketioxide lets go of it.
pub struct Sessions {
    table: Mutex<HashMap<String, Weak<Session>>>,
    /// How many there are, in the table or not.
    count: AtomicUsize,
    capacity: Capacity,
    ask: OnceLock<Ask>,
    keeps: OnceLock<Keeps>,
}

/// Whether somebody may read a part of what clients say when they connect.
pub type Keeps = Box<dyn Fn(Part<'_>) -> bool + Send + Sync>;

/// Asked before a CONNECT packet for a namespace is passed on; false if there are too many already.
pub type Ask = Box<dyn Fn(&str) -> bool + Send + Sync>;

impl Sessions {
    /// No sessions yet. So much may wait for the client of each.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            table: Mutex::default(),
            count: AtomicUsize::new(0),
            capacity,
            ask: OnceLock::new(),
            keeps: OnceLock::new(),
        }
    }

    /// A new session, not yet in the table.
    pub fn begin(self: &Arc<Self>, handshake: Option<Box<Handshake>>) -> Arc<Session> {
        self.count.fetch_add(1, Ordering::Relaxed);
        Arc::new(Session {
            sessions: self.clone(),
            handshake,
            id: OnceLock::new(),
            on_websocket: AtomicBool::new(false),
            upgrading: AtomicBool::new(false),
            polls: Polls::default(),
            poll: tokio::sync::Mutex::new(()),
            owes_poll: AtomicBool::new(false),
            post: tokio::sync::Mutex::default(),
            introductions: Mutex::default(),
            outbox: Outbox::new(self.capacity),
            receivers: Receivers::default(),
            reading: Reading::default(),
            is_closing: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            end_polling: OnceLock::new(),
        })
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Enters a session under the id that socketioxide has given it.
    pub fn enter(&self, session: &Arc<Session>, id: String) {
        let id = session.id.get_or_init(|| id);
        let mut table = self.table.lock().expect("no holder panics");
        table.insert(id.clone(), Arc::downgrade(session));
    }

    /// The session of this id.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        let table = self.table.lock().expect("no holder panics");
        table.get(id)?.upgrade()
    }

    /// From now on that is kept of handshakes which `keeps` says, once and for all.
    pub fn keep_of_handshakes(&self, keeps: Keeps) {
        self.keeps.get_or_init(|| keeps);
    }

    /// Whether a part of a handshake is to be kept.
    pub fn keeps(&self, part: Part<'_>) -> bool {
        self.keeps.get().is_some_and(|keeps| keeps(part))
    }

    /// From now on `ask` is asked, once and for all.
    pub fn ask_before_connect(&self, ask: Ask) {
        self.ask.get_or_init(|| ask);
    }
}

/// One client's session. The requests that socketioxide keeps hold it, and so does the stream of
/// a websocket.
pub struct Session {
    sessions: Arc<Sessions>,
    /// What the client said when it connected; none if nobody may read it.
    pub handshake: Option<Box<Handshake>>,
    id: OnceLock<String>,
    on_websocket: AtomicBool,
    upgrading: AtomicBool,
    /// The polls that have come, and which of them are to go back.
    pub polls: Polls,
    /// Held by the poll that waits.
    pub poll: tokio::sync::Mutex<()>,
    /// The client has ended it while no poll waited: one may be on its way.
    pub owes_poll: AtomicBool,
    /// Held by the POST that is under way.
    pub post: tokio::sync::Mutex<Passage>,
    /// Locked before the outbox, where both are.
    introductions: Mutex<Introductions>,
    /// What goes out over the websocket.
    pub outbox: Outbox,
    /// Who takes what it sends.
    pub receivers: Receivers,
    /// What socketioxide is doing with what it sends.
    pub reading: Reading,
    is_closing: AtomicBool,
    is_ended: AtomicBool,
    /// Who waits for bytes from the websocket.
    pub reader: AtomicWaker,
    /// Ends the session while it is with polling.
    pub end_polling: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Session {
    /// Whether its packets go over a websocket.
    pub fn is_on_websocket(&self) -> bool {
        self.on_websocket.load(Ordering::Acquire)
    }

    /// Polls are over: it goes on over a websocket, for good.
    pub fn leave_polling(&self) {
        self.on_websocket.store(true, Ordering::Release);
    }

    /// From now on packets go out over a websocket, those that `first` makes before all others.
    /// Until then they went to socketioxide, so `first` takes what waits there.
    pub fn open_websocket(
        &self,
        writer: OwnedWriteHalf,
        write_timeout: Duration,
        first: impl FnOnce(&mut Introductions) -> Bytes,
    ) {
        let mut introductions = self.introductions();
        let first = || first(&mut introductions);
        self.outbox.open(writer, write_timeout, first);
    }

    /// Writes what waits for the client, as far as it takes it.
    pub fn flush(&self) {
        match self.outbox.flush() {
            Ok(false) => {}
            // The reader goes on when the client takes more.
            Ok(true) => self.reader.wake(),
            Err(_) => self.end(),
        }
    }

    /// Ends it when the client has got what is on its way. Nothing that it sends is taken any more.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        // The reader writes what was kept before it has socketioxide end.
        self.outbox.release();
        self.reader.wake();
        self.polls.release(self.polls.begun());
    }

    /// Whether it is about to end.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Ends it. The client sees the transport close, and may come back.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.reader.wake();
        if let Some(end_polling) = self.end_polling.get()
            && !self.is_on_websocket()
        {
            end_polling();
        }
    }

    /// Its websocket is gone. socketioxide may not have it from an upgrade that failed there, and
    /// would believe for ever that it is still to come.
    pub fn websocket_ended(&self) {
        if let Some(end_polling) = self.end_polling.get() {
            end_polling();
        }
    }

    /// Whether it must not go on.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Whether packets have to wait for the client: its websocket takes nothing, or no poll waits.
    pub fn is_blocked(&self) -> bool {
        match self.is_on_websocket() {
            true => self.outbox.is_blocked(),
            false => self.poll.try_lock().is_ok(),
        }
    }

    /// Claims the upgrade; false if another websocket has it already.
    pub fn begin_upgrade(&self) -> bool {
        !self.is_on_websocket() && !self.upgrading.swap(true, Ordering::AcqRel)
    }

    /// Gives up the claim: the session stays with polling.
    pub fn abandon_upgrade(&self) {
        self.upgrading.store(false, Ordering::Release);
    }

    /// The client asks for a namespace; `rest` is its CONNECT packet from the path on.
    pub fn asks_for(&self, rest: &[u8]) {
        let path = rest.split(|byte| *byte == b',').next().unwrap_or_default();
        if let (Some(ask), Ok(path)) = (self.sessions.ask.get(), str::from_utf8(path))
            && !ask(path)
        {
            let error = WireError::temporary("rate_limited", "there are too many namespaces");
            self.refuse(path, &error.into());
        }
    }

    /// Says why the client is not let into a namespace. Called before socketioxide answers the
    /// CONNECT packet, which knows no more than a text.
    pub fn refuse(&self, namespace: &str, error: &ConnectError) {
        self.introductions().refuse(namespace, error);
    }

    /// Announces how a connection is to be introduced. Called before socketioxide answers the
    /// CONNECT packet.
    pub fn announce(&self, introduction: Introduction) {
        // The former connection may have ended only behind the CONNECT packet.
        self.receivers.ask_again(introduction.namespace.as_bytes());
        self.introductions().announce(introduction);
    }

    /// Introduces a connection that is ready, so that what is sent to it next comes behind. It is
    /// written by itself: who waits for one message after the other could lose a second one that
    /// came along. A client that polls gets everything through socketioxide, in order already.
    pub fn introduce(self: &Arc<Self>, namespace: &str) {
        let mut introductions = self.introductions();
        if let Some(answer) = introductions.give(namespace, self.outbox.is_open()) {
            self.push_frames(text_frame(&answer));
            self.flush();
            if self.outbox.hold() {
                let session = self.clone();
                tokio::spawn(async move {
                    sleep(INTRODUCTION_PAUSE).await;
                    session.outbox.release();
                    session.flush();
                });
            }
        }
    }

    /// Tells the client that the server has ended a connection. socketioxide has said so as well, but
    /// that may be on its way still, and the client could be back first. A client that polls gets
    /// everything through socketioxide, in order already.
    pub fn tell_end(&self, namespace: &str) {
        let mut introductions = self.introductions();
        if self.outbox.is_open() && introductions.tell_end(namespace) {
            self.push_frames(text_frame(&match namespace {
                "/" => "41".to_owned(),
                namespace => format!("41{namespace},"),
            }));
            self.flush();
        }
    }

    /// Sends a frame of socketioxide's, with what the client is to see instead of an answer to
    /// CONNECT.
    pub fn pass_on(&self, frame: &[u8], payload: &[u8]) {
        let mut introductions = self.introductions();
        if introductions.put_off(payload) || introductions.has_told(payload) {
            return;
        }
        match introductions.answer(payload) {
            Some(Answer::Instead(answer)) => self.push_frames(text_frame(&answer)),
            Some(Answer::Given) => {}
            None => self.push_frames(Bytes::copy_from_slice(frame)),
        }
    }

    fn push_frames(&self, frames: Bytes) {
        if !self.outbox.push_frames(frames) {
            tracing::debug!("a client ends that reads no answers");
            self.end();
        }
    }

    /// The connections that the client does not know of yet.
    pub fn introductions(&self) -> MutexGuard<'_, Introductions> {
        self.introductions.lock().expect("no holder panics")
    }
}

fn text_frame(packet: &str) -> Bytes {
    let mut frame = Vec::new();
    frame::push(&mut frame, frame::TEXT, packet.as_bytes());
    frame.into()
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(id) = self.id.get() {
            let mut table = self.sessions.table.lock().expect("no holder panics");
            table.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity = Capacity {
        packets: 1,
        bytes: 1,
    };

    #[test]
    fn a_session_leaves_the_table_with_its_last_holder() {
        let sessions = Arc::new(Sessions::new(CAPACITY));
        let session = sessions.begin(None);
        sessions.enter(&session, "a".to_owned());
        assert!(Arc::ptr_eq(&sessions.get("a").unwrap(), &session));
        assert_eq!(sessions.count(), 1);
        drop(session);
        assert!(sessions.get("a").is_none() && sessions.table.lock().unwrap().is_empty());
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn only_one_websocket_at_a_time_can_take_a_session_over() {
        let session = Arc::new(Sessions::new(CAPACITY)).begin(None);
        assert!(session.begin_upgrade() && !session.begin_upgrade());
        session.abandon_upgrade();
        assert!(session.begin_upgrade());
        session.leave_polling();
        session.abandon_upgrade();
        assert!(!session.begin_upgrade());
    }
}
