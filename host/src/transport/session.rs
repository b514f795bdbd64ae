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
use serde::Serialize;
use tokio::{net::tcp::OwnedWriteHalf, sync::Notify, time::sleep};

use super::{
    frame,
    handshake::{Handshake, Part},
    outbox::{Capacity, Outbox},
    passage::{Passage, namespace},
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

/// So many CONNECT packets of a client may be refused at once for it to be told more than a code.
const MAX_REFUSED: usize = 64;

/// So many namespaces of a client are known that it is not in any more: those that it left last.
const MAX_LEFT: usize = 64;

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
            release_poll: Notify::new(),
            poll: tokio::sync::Mutex::new(()),
            owes_poll: AtomicBool::new(false),
            post: tokio::sync::Mutex::default(),
            introductions: Mutex::default(),
            outbox: Outbox::new(self.capacity),
            receivers: Mutex::default(),
            reading: Mutex::default(),
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
    /// Asks the poll that waits, or the next one, to come back without packets.
    pub release_poll: Notify,
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
    receivers: Mutex<Receivers>,
    reading: Mutex<Reading>,
    is_closing: AtomicBool,
    is_ended: AtomicBool,
    /// Who waits for bytes from the websocket.
    pub reader: AtomicWaker,
    /// Ends the session while it is with polling.
    pub end_polling: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Who takes what the client sends, by namespace.
#[derive(Default)]
struct Receivers {
    /// They take the events that come over a websocket.
    present: Vec<(String, Arc<dyn Receiver>)>,
    /// Nobody: the client is not in these namespaces any more.
    left: Vec<String>,
}

/// What socketioxide is doing with what the client sends.
#[derive(Default)]
struct Reading {
    is_under_way: bool,
    /// What is done when it has read it.
    removals: Vec<Removal>,
}

/// Takes a socket out of socketioxide.
pub type Removal = Box<dyn FnOnce() + Send>;

/// Takes the events of a connection, in the order in which they came.
pub trait Receiver: Send + Sync {
    /// An event without attachments: the array of its packet, and the id of the ack where one is
    /// asked for. False if it cannot be read, which socketioxide may judge.
    fn receive(&self, array: &str, ack: Option<i64>) -> bool;
}

/// How a connection is introduced to its client, in the answer to its CONNECT packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Introduction {
    /// The namespace's path.
    #[serde(skip)]
    pub namespace: String,
    /// What the client sees as `socket.id`. Not the session's id: whoever knows that one can take
    /// a polling session over, and clients show `socket.id` to each other.
    pub sid: String,
    /// What the client shows when it comes back; none if it need not try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
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
        self.release_poll.notify_one();
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
        self.ask_again(introduction.namespace.as_bytes());
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

    /// Has the events of a namespace taken by `receiver`. Without one they are socketioxide's.
    pub fn add_receiver(&self, namespace: &str, receiver: Arc<dyn Receiver>) {
        let mut receivers = self.receivers.lock().expect("no holder panics");
        let present = &mut receivers.present;
        present.retain(|(other, _)| other != namespace);
        // Most clients use one namespace.
        present.reserve_exact(1);
        present.push((namespace.to_owned(), receiver));
    }

    /// The client is not in a namespace any more. What it sends there is dropped until it asks for it
    /// again.
    pub fn leave(&self, namespace: &str) {
        let mut receivers = self.receivers.lock().expect("no holder panics");
        receivers.present.retain(|(other, _)| other != namespace);
        receivers.left.retain(|other| other != namespace);
        if receivers.left.len() >= MAX_LEFT {
            receivers.left.remove(0);
        }
        receivers.left.push(namespace.to_owned());
    }

    /// The client asks for a namespace, perhaps one that it has left.
    pub fn ask_again(&self, namespace: &[u8]) {
        let mut receivers = self.receivers.lock().expect("no holder panics");
        let left = &mut receivers.left;
        left.retain(|other| other.as_bytes() != namespace);
    }

    /// Whether the client has left a namespace.
    pub fn has_left(&self, namespace: &[u8]) -> bool {
        let receivers = self.receivers.lock().expect("no holder panics");
        let mut left = receivers.left.iter();
        left.any(|other| other.as_bytes() == namespace)
    }

    /// No event is taken any more.
    pub fn forget_receivers(&self) {
        let mut receivers = self.receivers.lock().expect("no holder panics");
        receivers.present.clear();
    }

    /// socketioxide is about to read a packet.
    pub fn begin_reading(&self) {
        self.reading.lock().expect("no holder panics").is_under_way = true;
    }

    /// socketioxide has dealt with what it was reading.
    pub fn end_reading(&self) {
        let reading = std::mem::take(&mut *self.reading.lock().expect("no holder panics"));
        reading.removals.into_iter().for_each(|remove| remove());
    }

    /// Has `remove` take a socket that has ended out of socketioxide: now, or if a packet for it may
    /// be under way there, behind that packet.
    pub fn when_read(&self, remove: Removal) {
        let mut reading = self.reading.lock().expect("no holder panics");
        if reading.is_under_way {
            reading.removals.push(remove);
        } else {
            drop(reading);
            remove();
        }
    }

    /// Hands an engine.io packet to who takes it; false if nobody does.
    pub fn deliver(&self, packet: &[u8]) -> bool {
        let Some(event) = Event::parse(packet) else {
            return false;
        };
        let receiver = {
            let receivers = self.receivers.lock().expect("no holder panics");
            let mut present = receivers.present.iter();
            let receiver = present.find(|(namespace, _)| namespace == event.namespace);
            receiver.map(|(_, receiver)| receiver.clone())
        };
        receiver.is_some_and(|receiver| receiver.receive(event.array, event.ack))
    }

    /// The connections that the client does not know of yet.
    pub fn introductions(&self) -> MutexGuard<'_, Introductions> {
        self.introductions.lock().expect("no holder panics")
    }
}

/// An event without attachments.
struct Event<'a> {
    namespace: &'a str,
    ack: Option<i64>,
    array: &'a str,
}

impl<'a> Event<'a> {
    /// Reads `42`, the namespace unless it is `/`, the ack's id if there is one, and the array.
    /// None for everything else, and for what only socketioxide can refuse as it must be.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let packet = str::from_utf8(packet.strip_prefix(b"42")?).ok()?;
        let (namespace, rest) = match packet.starts_with('/') {
            true => packet.split_once(',')?,
            false => ("/", packet),
        };
        let (id, array) = rest.split_at(rest.find('[')?);
        let ack = match id {
            "" => None,
            id if id.bytes().all(|byte| byte.is_ascii_digit()) => Some(id.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            namespace,
            ack,
            array,
        })
    }
}

fn text_frame(packet: &str) -> Bytes {
    let mut frame = Vec::new();
    frame::push(&mut frame, frame::TEXT, packet.as_bytes());
    frame.into()
}

/// Connections whose CONNECT packets have not been answered by socketioxide.
#[derive(Default)]
pub struct Introductions {
    pending: Vec<Pending>,
    /// Namespaces that the client is not let into, with what it is to get.
    refused: Vec<(String, String)>,
    /// Ends of connections by their namespace: how many more of them the host has told the client of
    /// than socketioxide has.
    ends: Vec<(String, isize)>,
}

struct Pending {
    introduction: Introduction,
    /// The client may know of it.
    is_ready: bool,
    /// socketioxide has answered, the client has got nothing yet.
    is_answered: bool,
    /// The client has got the answer, socketioxide's is still on its way.
    is_given: bool,
}

/// What the client gets instead of socketioxide's answer to CONNECT.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This packet.
    Instead(String),
    /// Nothing: it has got its answer.
    Given,
}

impl Introductions {
    /// Whether socketioxide has answered all CONNECT packets.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.refused.is_empty()
    }

    fn announce(&mut self, introduction: Introduction) {
        // A former answer that never went out is out of date.
        self.pending
            .retain(|other| other.introduction.namespace != introduction.namespace);
        self.pending.push(Pending {
            introduction,
            is_ready: false,
            is_answered: false,
            is_given: false,
        });
    }

    fn refuse(&mut self, namespace: &str, error: &ConnectError) {
        if self.refused.len() >= MAX_REFUSED {
            return;
        }
        let json = serde_json::to_string(error).expect("texts and JSON always serialise");
        let packet = match namespace {
            "/" => format!("44{json}"),
            namespace => format!("44{namespace},{json}"),
        };
        self.refused.push((namespace.to_owned(), packet));
    }

    /// The connection is ready. Returns its introduction if that is to be sent `now`.
    fn give(&mut self, namespace: &str, now: bool) -> Option<String> {
        let is_its = |pending: &Pending| pending.introduction.namespace == namespace;
        let index = self.pending.iter().position(is_its)?;
        let pending = &mut self.pending[index];
        pending.is_ready = true;
        if !now || pending.is_given {
            return None;
        }
        pending.is_given = true;
        let packet = pending.introduction.packet();
        if pending.is_answered {
            self.pending.swap_remove(index);
        }
        Some(packet)
    }

    /// Whether `packet` answers CONNECT before the connection is ready. The client must not know of
    /// it sooner than those who send to it do, so it gets its answer then.
    fn put_off(&mut self, packet: &[u8]) -> bool {
        let Some(index) = self.answered_by(packet) else {
            return false;
        };
        let pending = &mut self.pending[index];
        pending.is_answered = !pending.is_ready;
        pending.is_answered
    }

    /// The host wants to tell the client of an end. False if socketioxide has been faster.
    fn tell_end(&mut self, namespace: &str) -> bool {
        self.count_end(namespace.as_bytes(), 1) >= 0
    }

    /// Whether an engine.io packet of socketioxide's tells of an end that the client knows of already.
    pub fn has_told(&mut self, packet: &[u8]) -> bool {
        let rest = packet.strip_prefix(b"41");
        rest.is_some_and(|rest| self.count_end(namespace(rest), -1) > 0)
    }

    /// Returns what the count was before.
    fn count_end(&mut self, namespace: &[u8], difference: isize) -> isize {
        let is_its = |(path, _): &(String, isize)| path.as_bytes() == namespace;
        let Some(index) = self.ends.iter().position(is_its) else {
            let path = String::from_utf8_lossy(namespace).into_owned();
            self.ends.push((path, difference));
            return 0;
        };
        let before = self.ends[index].1;
        self.ends[index].1 += difference;
        if self.ends[index].1 == 0 {
            self.ends.swap_remove(index);
        }
        if self.ends.is_empty() {
            self.ends = Vec::new();
        }
        before
    }

    /// Which of them an engine.io packet of socketioxide's answers.
    fn answered_by(&self, packet: &[u8]) -> Option<usize> {
        let namespace = namespace(packet.strip_prefix(b"40")?);
        let is_its = |pending: &Pending| pending.introduction.namespace.as_bytes() == namespace;
        self.pending.iter().position(is_its)
    }

    /// What the client gets if `packet` is an engine.io packet of socketioxide's that answers
    /// CONNECT.
    pub fn answer(&mut self, packet: &[u8]) -> Option<Answer> {
        if let Some(rest) = packet.strip_prefix(b"44") {
            return self.refusal(rest);
        }
        let index = self.answered_by(packet)?;
        let pending = self.pending.swap_remove(index);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Some(match pending.is_given {
            true => Answer::Given,
            false => Answer::Instead(pending.introduction.packet()),
        })
    }

    /// What the client gets instead of socketioxide's refusal.
    fn refusal(&mut self, rest: &[u8]) -> Option<Answer> {
        let namespace = namespace(rest);
        let is_its = |(path, _): &(String, String)| path.as_bytes() == namespace;
        let index = self.refused.iter().position(is_its)?;
        let (_, packet) = self.refused.swap_remove(index);
        if self.refused.is_empty() {
            self.refused = Vec::new();
        }
        Some(Answer::Instead(packet))
    }
}

impl Introduction {
    fn packet(&self) -> String {
        let json = serde_json::to_string(self).expect("texts always serialise");
        match self.namespace.as_str() {
            "/" => format!("40{json}"),
            namespace => format!("40{namespace},{json}"),
        }
    }
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

    fn introduction(namespace: &str, sid: &str) -> Introduction {
        Introduction {
            namespace: namespace.to_owned(),
            sid: sid.to_owned(),
            pid: None,
        }
    }

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

    #[test]
    fn what_was_not_opened_is_refused_once_with_the_true_reason() {
        let session = Arc::new(Sessions::new(CAPACITY)).begin(None);
        session.asks_for(b"/full");
        assert!(session.introductions().is_empty(), "nobody is asked");
        let is_good = |path: &str| path == "/good";
        session.sessions.ask_before_connect(Box::new(is_good));
        session.asks_for(b"/good,{}");
        session.asks_for(b"/full,{}");
        let mut introductions = session.introductions();
        let error = |path: &str, message: &str| format!("44{path},{{\"message\":\"{message}\"}}");
        for other in [
            error("/good", "Invalid namespace"),
            "44{}".to_owned(),
            "42/full,[]".to_owned(),
        ] {
            assert_eq!(introductions.answer(other.as_bytes()), None);
        }
        let answer = introductions.answer(error("/full", "Invalid namespace").as_bytes());
        let expected = concat!(
            r#"44/full,{"message":"rate_limited","data":{"code":"rate_limited","#,
            r#""message":"there are too many namespaces","temporary":true}}"#
        );
        assert_eq!(answer, Some(Answer::Instead(expected.to_owned())));
        assert!(introductions.is_empty());

        let refusal = WireError::new("unauthorized", "a token is needed").into();
        introductions.refuse("/", &refusal);
        let answer = introductions.answer(b"44{\"message\":\"unauthorized\"}");
        let expected = concat!(
            r#"44{"message":"unauthorized","data":{"code":"unauthorized","#,
            r#""message":"a token is needed","temporary":false}}"#
        );
        assert_eq!(answer, Some(Answer::Instead(expected.to_owned())));
        for _ in 0..=MAX_REFUSED {
            introductions.refuse("/full", &refusal);
        }
        assert_eq!(introductions.refused.len(), MAX_REFUSED);
    }

    #[test]
    fn a_namespace_is_left_until_it_is_asked_for_again_and_the_last_ones_are_known() {
        let session = Arc::new(Sessions::new(CAPACITY)).begin(None);
        assert!(!session.has_left(b"/"));
        session.leave("/");
        session.leave("/");
        assert!(session.has_left(b"/") && !session.has_left(b"/other"));
        session.ask_again(b"/other");
        assert!(session.has_left(b"/"));
        session.ask_again(b"/");
        assert!(!session.has_left(b"/"));
        session.leave("/");
        session.announce(introduction("/", "new"));
        assert!(!session.has_left(b"/"));
        let path = |number: usize| format!("/{number}");
        (0..=MAX_LEFT).for_each(|number| session.leave(&path(number)));
        assert!(!session.has_left(b"/0"));
        assert!((1..=MAX_LEFT).all(|number| session.has_left(path(number).as_bytes())));
    }

    #[test]
    fn a_client_is_told_of_an_end_once_by_whoever_is_first() {
        let mut introductions = Introductions::default();
        assert!(!introductions.has_told(b"42[\"a\"]"));
        for (namespace, packet) in [("/", "41"), ("/other", "41/other,")] {
            let packet = packet.as_bytes();
            assert!(introductions.tell_end(namespace) && introductions.has_told(packet));
            assert!(!introductions.has_told(packet) && !introductions.tell_end(namespace));
            assert!(introductions.tell_end(namespace));
        }
        assert!(introductions.has_told(b"41") && introductions.has_told(b"41/other,"));
        assert!(introductions.ends.is_empty());
    }

    #[test]
    fn each_connection_is_introduced_once_in_its_own_namespace() {
        let mut introductions = Introductions::default();
        introductions.announce(introduction("/", "old"));
        introductions.announce(introduction("/", "main"));
        introductions.announce(introduction("/admin", "other"));
        assert_eq!(introductions.answer(b"42[\"a\"]"), None);
        assert_eq!(introductions.answer(b"40/foo,{\"sid\":\"x\"}"), None);
        assert_eq!(
            introductions.answer(b"40/admin,{\"sid\":\"x\"}"),
            Some(Answer::Instead("40/admin,{\"sid\":\"other\"}".to_owned()))
        );
        assert_eq!(introductions.give("/admin", true), None);
        assert_eq!(
            introductions.give("/", true).unwrap(),
            "40{\"sid\":\"main\"}"
        );
        assert_eq!(introductions.give("/", true), None);
        assert_eq!(
            introductions.answer(b"40{\"sid\":\"x\"}"),
            Some(Answer::Given)
        );
        assert!(introductions.is_empty());
        assert_eq!(introductions.answer(b"40{\"sid\":\"x\"}"), None);
    }
}
