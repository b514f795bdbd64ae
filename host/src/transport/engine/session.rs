//! One client's Engine.IO session: its transport, its life, and the connections to namespaces that it
//! carries.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use crossbeam_utils::atomic::AtomicCell;
use futures_util::task::AtomicWaker;
use serde::Serialize;

use super::{
    forms::Forms,
    handshake::Handshake,
    inbox::{Inbox, Kept, LetIn, Received, Routed},
    msgpack,
    outbox::{Flushed, Outbox, Pushed},
    polling::payload,
    sessions::{Policy, Sessions, Task},
    sweep::Due,
    turn::Turn,
    websocket::frame::{self, CloseCode},
};
use crate::{
    address::ClientAddress,
    config::Parser,
    error::ConnectError,
    ordered_lock::{OrderedMutex, rank},
    transport::{
        head::{Kind, PacketHead},
        key::SessionKey,
        net::Wire,
    },
};

/// How long a session that its client has ended is known for a last poll.
const LAST_POLL: Duration = Duration::from_millis(100);

/// One client's session. The table of [`Sessions`] holds it while it lives, and so does who works
/// for it.
pub struct Session {
    /// The secret that its requests carry.
    pub id: SessionKey,
    /// The client's address.
    pub address: ClientAddress,
    /// When it began.
    pub began: SystemTime,
    /// What the client said when it came; none if nobody may read it.
    pub handshake: Option<Box<Handshake>>,
    sessions: Arc<Sessions>,
    transport: AtomicCell<Transport>,
    life: AtomicCell<Life>,
    /// The connection of the websocket, once there is one.
    wire: OnceLock<Wire>,
    /// Whether the client takes messages deflated, once it has a websocket.
    deflates: AtomicBool,
    /// The task of the websocket.
    task: AtomicWaker,
    /// What goes out.
    pub outbox: Outbox,
    /// What comes in.
    inbox: OrderedMutex<{ rank::INBOX }, Inbox>,
    /// The request that waits for packets.
    pub(super) polls: Turn,
    /// The request that brings some.
    pub(super) posts: Turn,
    /// Whether the sweep comes to see that the client takes something.
    is_watched: AtomicBool,
    /// At which tick the ping was sent that has no answer yet; 0 if there is none.
    pinged: AtomicU32,
}

/// What packets travel over.
///
/// ```text
/// Polling   => Upgrading (a websocket asks for the session)
/// Upgrading => Polling (it did not come to it) | Websocket
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Requests.
    Polling,
    /// Requests still; a websocket is being probed.
    Upgrading,
    /// A websocket, for good.
    Websocket,
}

/// How far a session has come.
///
/// ```text
/// Open    => Closing (the last packet is under way) | Ended
/// Closing => Ended
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// What the client sends is not taken any more.
    Closing,
    Ended,
}

/// Why a connection has ended, in Socket.IO's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The client has closed its transport, or it broke.
    TransportClose,
    /// The client's requests contradict each other.
    TransportError,
    /// The client sent what is no packet.
    ParseError,
    /// The client did not answer a ping, or takes nothing.
    PingTimeout,
    /// The client has left the namespace.
    ClientDisconnect,
    /// The server has ended the connection.
    ServerDisconnect,
    /// The server stops.
    ServerShutdown,
}

impl EndReason {
    /// As `socket.on("disconnect", reason)` has it in Node.
    pub fn text(self) -> &'static str {
        match self {
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::ParseError => "parse error",
            Self::PingTimeout => "ping timeout",
            Self::ClientDisconnect => "client namespace disconnect",
            Self::ServerDisconnect => "server namespace disconnect",
            Self::ServerShutdown => "server shutting down",
        }
    }

    /// Whether it is the transport that ended, and not somebody who wanted the connection to.
    pub fn may_come_back(self) -> bool {
        !matches!(self, Self::ClientDisconnect | Self::ServerDisconnect)
    }
}

/// Takes what a client sends to one namespace, in the order in which it came.
pub trait Receiver: Send + Sync {
    /// The public id of the connection.
    fn id(&self) -> &str;

    /// An event: the array of its packet, what is attached, and the number of the ack where one is
    /// asked for.
    fn event(
        &self,
        array: &str,
        attachments: Vec<Bytes>,
        ack: Option<i64>,
    ) -> Result<(), Malformed>;

    /// An event with more attachments than the server takes.
    fn oversized(&self, array: &str, ack: Option<i64>) -> Result<(), Malformed>;

    /// The answer to the event of the server's with this number.
    fn acked(&self, id: Option<i64>, array: &str, attachments: Vec<Bytes>)
    -> Result<(), Malformed>;

    /// The connection has ended. It is the last that is told, and is told once.
    fn ended(&self, reason: EndReason);
}

/// What a session begins with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Greeting {
    sid: String,
    upgrades: &'static [&'static str],
    ping_interval: u64,
    ping_timeout: u64,
    max_payload: u64,
}

/// A connection that the server has ended, and that has not been told yet.
#[must_use]
pub(crate) struct Ended {
    session: Arc<Session>,
    namespace: Box<str>,
    receiver: Arc<dyn Receiver>,
    /// What became of the packet that tells the client.
    pushed: Pushed,
}

impl Ended {
    /// Tells the client and the connection. For one who holds no locks.
    pub(crate) fn tell(self) {
        self.session.has_pushed(self.pushed);
        self.receiver.ended(EndReason::ServerDisconnect);
        self.session.has_told_end(&self.namespace);
    }
}

/// What a client sent is no packet of the protocol: its session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl From<Malformed> for EndReason {
    fn from(Malformed: Malformed) -> Self {
        Self::ParseError
    }
}

impl Session {
    /// A session that polls.
    pub(super) fn new(
        id: SessionKey,
        address: ClientAddress,
        handshake: Option<Box<Handshake>>,
        sessions: Arc<Sessions>,
    ) -> Self {
        Self {
            id,
            address,
            began: SystemTime::now(),
            handshake,
            outbox: Outbox::new(sessions.policy.capacity),
            sessions,
            transport: AtomicCell::new(Transport::Polling),
            life: AtomicCell::new(Life::Open),
            wire: OnceLock::new(),
            deflates: AtomicBool::new(false),
            task: AtomicWaker::new(),
            inbox: OrderedMutex::default(),
            polls: Turn::default(),
            posts: Turn::default(),
            is_watched: AtomicBool::new(false),
            pinged: AtomicU32::new(0),
        }
    }

    /// It is over before it has begun here: nobody is told, and nobody gets anything.
    pub(super) fn is_past(&self) {
        self.life.store(Life::Ended);
        self.outbox.close();
    }

    /// What holds for all sessions.
    pub fn policy(&self) -> &Policy {
        &self.sessions.policy
    }

    /// What its packets travel over.
    pub fn transport(&self) -> Transport {
        self.transport.load()
    }

    /// Whether its packets travel over a websocket.
    pub(crate) fn is_over_websocket(&self) -> bool {
        self.transport() == Transport::Websocket
    }

    /// Claims the upgrade; false if another websocket has it, or had it.
    pub fn begin_upgrade(&self) -> bool {
        self.transport
            .compare_exchange(Transport::Polling, Transport::Upgrading)
            .is_ok()
    }

    /// Gives up the claim: the session stays with polling.
    pub fn abandon_upgrade(&self) {
        let upgrading = Transport::Upgrading;
        self.transport
            .compare_exchange(upgrading, Transport::Polling)
            .ok();
    }

    /// From now on packets travel over this websocket, those first that wait; deflated, if the client `deflates`.
    pub(crate) fn open_websocket(&self, wire: Wire, deflates: bool) -> &Wire {
        let wire = self.wire.get_or_init(|| wire);
        self.transport.store(Transport::Websocket);
        self.outbox.open_websocket();
        // Not before: no poll could read what is deflated.
        self.deflates.store(deflates, Ordering::Release);
        wire
    }

    /// From how many bytes on the client takes messages deflated; none if it does not.
    pub(crate) fn takes_deflated(&self) -> Option<usize> {
        let threshold = self.policy().per_message_deflate?;
        self.deflates.load(Ordering::Acquire).then_some(threshold)
    }

    /// Adds a packet to what goes out, in the form that the client takes. A volatile one is for clients that take it
    /// now.
    pub(crate) fn push(&self, packet: &Forms<'_>, is_volatile: bool) -> Pushed {
        self.outbox.push(
            packet.for_client(self.policy().parser, self.takes_deflated()),
            is_volatile,
        )
    }

    /// Sends an event, or ends a client that reads too slowly for it.
    pub(crate) fn send_event(self: &Arc<Self>, packet: &Forms<'_>) {
        let pushed = self.push(packet, false);
        self.has_pushed(pushed);
    }

    /// Its websocket, once it has one.
    pub(crate) fn websocket(&self) -> Option<&Wire> {
        self.wire.get()
    }

    /// Whether it is over once the last packet has gone out, which it has.
    pub fn is_parting(&self) -> bool {
        self.life.load() == Life::Closing && self.outbox.is_done()
    }

    /// Notes the task of the websocket, to be woken when there is something for it to do.
    pub fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Whether nothing waits for the client.
    pub fn has_sent_all(&self) -> bool {
        !self.outbox.is_waiting()
    }

    /// Whether the client can be sent something.
    pub fn is_open(&self) -> bool {
        self.life.load() == Life::Open
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.life.load() == Life::Ended
    }

    // What goes out.

    /// Sends what the protocol asks for. A client that reads no answers is ended.
    pub fn send(self: &Arc<Self>, packet: &str) {
        self.send_frame(frame::frame(frame::TEXT, packet.as_bytes()));
    }

    /// The same, for any frame.
    pub(super) fn send_frame(self: &Arc<Self>, frame: Bytes) {
        let pushed = self.outbox.push_control(frame);
        self.has_pushed(pushed);
    }

    /// A packet of Socket.IO that the protocol asks for, of the kind with this digit.
    fn control(&self, kind: &str, namespace: &str, json: &str) -> Bytes {
        match self.policy().parser {
            Parser::Json => {
                let packet = packet(kind, namespace, json);
                frame::frame(frame::TEXT, packet.as_bytes())
            }
            Parser::Msgpack => msgpack::control(kind, namespace, json),
        }
    }

    /// Writes what the protocol asks for and is in the outbox.
    fn has_pushed(self: &Arc<Self>, pushed: Pushed) {
        match pushed {
            Pushed::Waiting => self.flush(),
            Pushed::Full => {
                tracing::debug!("a client ends that reads no answers");
                self.end(EndReason::TransportClose);
            }
            Pushed::Taken | Pushed::Skipped | Pushed::Closed => {}
        }
    }

    /// The packet that a session begins with.
    pub fn greeting(&self) -> String {
        let policy = self.policy();
        let greeting = Greeting {
            sid: self.sessions.id_of(self.id),
            upgrades: match self.transport() {
                Transport::Polling if policy.transports.websocket => &["websocket"],
                Transport::Polling | Transport::Upgrading | Transport::Websocket => &[],
            },
            ping_interval: policy.ping_interval.as_millis() as u64,
            ping_timeout: policy.ping_timeout.as_millis() as u64,
            max_payload: policy.max_payload as u64,
        };
        let json = serde_json::to_string(&greeting).expect("texts and numbers always serialise");
        format!("0{json}")
    }

    /// Gets what waits for the client on its way.
    pub fn flush(self: &Arc<Self>) {
        self.has_flushed(self.outbox.flush(self.wire.get()));
    }

    fn has_flushed(self: &Arc<Self>, flushed: Flushed) {
        match flushed {
            Flushed::Done => {}
            Flushed::Held => {
                let sweep = &self.sessions.sweep;
                sweep.pause(Arc::downgrade(self), self.policy().introduction_pause);
            }
            Flushed::Blocked => {
                self.watch_writes();
                self.task.wake();
            }
            Flushed::Failed(error) => {
                tracing::debug!(%error, "a client cannot be written to");
                self.end(EndReason::TransportClose);
            }
        }
    }

    /// Lets out what was kept behind the answer to CONNECT.
    pub fn release(self: &Arc<Self>) {
        self.outbox.release();
        self.flush();
    }

    // What comes in.

    /// Takes a text from the client: an Engine.IO packet.
    pub fn receive(self: &Arc<Self>, packet: &str) -> Result<(), EndReason> {
        if !self.is_open() {
            return Ok(());
        }
        let (kind, message) = match packet.split_at_checked(1) {
            Some(split) => split,
            None => return Err(EndReason::ParseError),
        };
        match kind {
            "4" => Ok(self.receive_text(message)?),
            "3" => {
                self.pinged.store(0, Ordering::Relaxed);
                Ok(())
            }
            "1" => Err(EndReason::TransportClose),
            "b" => match payload::decode_attachment(message) {
                Some(bytes) => self.receive_binary(bytes),
                None => Err(EndReason::ParseError),
            },
            // Only the server pings.
            "2" => Err(EndReason::TransportError),
            // They mean something in an upgrade only.
            "0" | "5" | "6" => Ok(()),
            _ => Err(EndReason::ParseError),
        }
    }

    /// Takes a text message from the client: a packet of Socket.IO, unless all of those are binary.
    pub(super) fn receive_text(self: &Arc<Self>, packet: &str) -> Result<(), Malformed> {
        match self.policy().parser {
            Parser::Json => self.receive_message(packet),
            Parser::Msgpack => Err(Malformed),
        }
    }

    /// Takes a binary message from the client: an attachment of the packet before, or a whole packet.
    pub(super) fn receive_binary(self: &Arc<Self>, bytes: Bytes) -> Result<(), EndReason> {
        if let Parser::Json = self.policy().parser {
            return self.receive_attachment(bytes);
        }
        let (packet, attachments) =
            msgpack::read(&bytes, self.policy().max_attachments).ok_or(Malformed)?;
        self.receive_message(&packet)?;
        attachments
            .into_iter()
            .try_for_each(|attachment| self.receive_attachment(attachment))
    }

    /// Takes an attachment of the packet before.
    pub(super) fn receive_attachment(self: &Arc<Self>, attachment: Bytes) -> Result<(), EndReason> {
        if !self.is_open() {
            return Ok(());
        }
        let completed = self.inbox.lock().attach(attachment, self.policy())?;
        match completed {
            Some(completed) => Ok(completed.deliver(self)?),
            None => Ok(()),
        }
    }

    /// Takes a Socket.IO packet from the client.
    pub(super) fn receive_message(self: &Arc<Self>, packet: &str) -> Result<(), Malformed> {
        if !self.is_open() {
            return Ok(());
        }
        let head = PacketHead::parse(packet).ok_or(Malformed)?;
        let routed = {
            let mut inbox = self.inbox.lock();
            if inbox.awaits_attachments() {
                return Err(Malformed);
            }
            match head.kind {
                Kind::Connect => {
                    let is_new = inbox.begin(head.namespace, self.policy())?;
                    drop(inbox);
                    let admission = self.sessions.ask(self, head.namespace, head.data)?;
                    if is_new {
                        self.admit(head.namespace, admission);
                    }
                    return Ok(());
                }
                Kind::Disconnect if !head.data.is_empty() => return Err(Malformed),
                Kind::Disconnect => {
                    let left = inbox.leave(head.namespace)?;
                    drop(inbox);
                    if let Some(receiver) = left {
                        receiver.ended(EndReason::ClientDisconnect);
                    }
                    return Ok(());
                }
                Kind::Event | Kind::Ack if head.attachments > 0 => {
                    return inbox.expect_attachments(&head, self.policy());
                }
                Kind::Event | Kind::Ack => inbox.route(head.namespace)?,
            }
        };
        let received = Received::of(&head)?;
        match routed {
            Routed::To(receiver) => received.give(&*receiver),
            Routed::Joining => self.deliver(head.namespace, received.into_owned()),
            Routed::Left => Ok(()),
        }
    }

    /// Hands a packet to who takes it, or has it wait.
    pub(super) fn deliver(&self, namespace: &str, packet: Kept) -> Result<(), Malformed> {
        let mut inbox = self.inbox.lock();
        let receiver = match inbox.route(namespace)? {
            Routed::To(receiver) => receiver,
            Routed::Joining => return inbox.keep(namespace, packet, self.policy()),
            Routed::Left => return Ok(()),
        };
        drop(inbox);
        packet.give(&*receiver)
    }

    // Connections to namespaces.

    /// The client is let into a namespace that it has asked for: from now on `receiver` takes what it
    /// sends there, and first what came meanwhile. False if it is gone, or has left.
    pub fn let_in(self: &Arc<Self>, namespace: &str, receiver: &Arc<dyn Receiver>) -> bool {
        if !self.is_open() {
            return false;
        }
        let mut inbox = self.inbox.lock();
        loop {
            match inbox.let_in(namespace, receiver) {
                LetIn::Gone => return false,
                LetIn::Joined => return true,
                LetIn::Left => {
                    drop(inbox);
                    receiver.ended(EndReason::ClientDisconnect);
                    self.has_told_end(namespace);
                    return false;
                }
                LetIn::Behind(waiting) => {
                    drop(inbox);
                    let mut given = waiting.into_iter().map(|packet| packet.give(&**receiver));
                    if given.any(|given| given.is_err()) {
                        self.end(EndReason::ParseError);
                        return false;
                    }
                    inbox = self.inbox.lock();
                }
            }
        }
    }

    /// This decides about a client that asks for a namespace, now or when its former connection there has
    /// been told of its end.
    fn admit(&self, namespace: &str, admission: Task) {
        let admission = self.inbox.lock().admit(namespace, admission);
        if let Some(admission) = admission {
            self.sessions.go_on_with(admission);
        }
    }

    /// The client is not let into a namespace that it has asked for, and is told why. What is temporary
    /// would end a stock client's tries for good, so there the transport closes and the client tries
    /// again, unless it has other connections on it.
    pub fn refuse(self: &Arc<Self>, namespace: &str, error: &ConnectError) {
        let is_alone = {
            let mut inbox = self.inbox.lock();
            inbox.refuse(namespace);
            inbox.is_empty()
        };
        if error.is_temporary && is_alone {
            tracing::debug!(namespace, "a client has to try again: {}", error.message);
            self.close();
            return;
        }
        let json = serde_json::to_string(error).expect("texts and JSON always serialise");
        self.send_frame(self.control("4", namespace, &json));
    }

    /// Answers the CONNECT of a client that is let in. [`Session::show_introduction`] comes next.
    pub fn introduce(&self, namespace: &str, json: &str) {
        self.outbox.push_control(self.control("0", namespace, json));
    }

    /// Sends the answer to CONNECT by itself, and what comes up next a little later: who waits for one
    /// message after the other could lose a second one that came along. Node's server writes the two
    /// apart.
    pub fn show_introduction(self: &Arc<Self>) {
        let flushed = self.outbox.flush_at_once(self.wire.get());
        self.has_flushed(flushed);
        self.outbox.hold(self.policy().introduction_pause);
    }

    /// The server ends the connection with this public id; false if it has ended already.
    pub fn end_connection(self: &Arc<Self>, namespace: &str, id: &str) -> bool {
        let ended = self.take_connection(namespace, id);
        ended.map(Ended::tell).is_some()
    }

    /// Ends the connection with this public id, without a word to anybody yet: whoever does may hold locks.
    /// None if it has ended already.
    pub(crate) fn take_connection(self: &Arc<Self>, namespace: &str, id: &str) -> Option<Ended> {
        let mut inbox = self.inbox.lock();
        let receiver = inbox.end(namespace, id)?;
        // Under the lock: the answer to a CONNECT that comes next stands behind it.
        let pushed = self.outbox.push_control(self.control("1", namespace, ""));
        Some(Ended {
            session: self.clone(),
            namespace: namespace.into(),
            receiver,
            pushed,
        })
    }

    /// A connection has been told of its end; the client may have asked for the next one.
    fn has_told_end(self: &Arc<Self>, namespace: &str) {
        let admission = self.inbox.lock().has_ended(namespace);
        if let Some(admission) = admission {
            self.sessions.spawn(admission);
        }
    }

    // Its end.

    /// Ends it when the client has got what is on its way. Nothing that it sends is taken any more.
    pub fn close(self: &Arc<Self>) {
        if self
            .life
            .compare_exchange(Life::Open, Life::Closing)
            .is_err()
        {
            return;
        }
        let last = match self.transport() {
            Transport::Websocket => frame::close(None),
            Transport::Polling | Transport::Upgrading => frame::frame(frame::TEXT, b"1"),
        };
        self.outbox.push_last(last);
        self.schedule(Due::Close);
        self.flush();
        self.task.wake();
    }

    /// The client ends it by a request. A poll that waits goes back, and so does one that comes soon:
    /// what was sent at once over two connections may come in any order.
    pub(super) fn close_by_client(self: &Arc<Self>) {
        if self
            .life
            .compare_exchange(Life::Open, Life::Closing)
            .is_ok()
        {
            self.tell_end(EndReason::TransportClose);
            self.outbox
                .push_last(frame::frame(frame::TEXT, payload::NOTHING.as_bytes()));
            self.flush();
            let sweep = &self.sessions.sweep;
            sweep.schedule(Arc::downgrade(self), LAST_POLL, Due::Close);
        }
    }

    /// Sends back the poll that waits.
    pub(super) fn send_back_poll(self: &Arc<Self>) {
        if !self.outbox.is_waiting() {
            self.send(payload::NOTHING);
        }
    }

    /// Ends it with a reason for the client: what waits goes out first.
    pub fn close_with(self: &Arc<Self>, code: Option<CloseCode>, reason: EndReason) {
        if self
            .life
            .compare_exchange(Life::Open, Life::Closing)
            .is_ok()
        {
            self.outbox.push_last(frame::close(code));
            self.flush();
            self.end_here(reason);
        }
    }

    /// Ends it. Whoever does may hold locks that its connections need, so they are told a moment later.
    pub fn end(self: &Arc<Self>, reason: EndReason) {
        if self.become_ended(reason) {
            let session = self.clone();
            self.sessions.spawn(async move { session.tell_end(reason) });
        }
    }

    /// Ends it, for one who holds no locks.
    pub fn end_here(self: &Arc<Self>, reason: EndReason) {
        if self.become_ended(reason) {
            self.tell_end(reason);
        }
    }

    /// True for the first who ends it.
    fn become_ended(&self, reason: EndReason) -> bool {
        let former = self.life.swap(Life::Ended);
        if former == Life::Ended {
            return false;
        }
        self.sessions.remove(self);
        if former == Life::Open {
            self.part(reason);
        }
        self.task.wake();
        self.posts.end();
        true
    }

    /// The last word to a client that is ended out of turn. The poll of one that is to come back is
    /// refused: clients in other languages take the end of a session by the server for its will, and
    /// stay away.
    fn part(&self, reason: EndReason) {
        match self.transport() {
            Transport::Websocket if !self.outbox.is_waiting() => {
                self.outbox.push_last(frame::close(None));
                self.outbox.flush(self.wire.get());
            }
            Transport::Polling | Transport::Upgrading
                if reason == EndReason::TransportError && !self.outbox.is_waiting() =>
            {
                self.outbox.push_last(frame::frame(frame::TEXT, b"1"));
                self.outbox.flush(None);
            }
            Transport::Websocket | Transport::Polling | Transport::Upgrading => self.outbox.close(),
        }
    }

    fn tell_end(&self, reason: EndReason) {
        let receivers = self.inbox.lock().clear();
        for receiver in receivers {
            receiver.ended(reason);
        }
    }

    // Its clock.

    /// Has the sweep come back for something.
    pub(super) fn schedule(self: &Arc<Self>, due: Due) {
        let policy = self.policy();
        let after = match due {
            Due::Ping => policy.ping_interval,
            Due::Pong(_) => policy.ping_timeout,
            Due::Join => policy.connect_timeout,
            Due::Write | Due::Close => policy.write_timeout,
        };
        self.schedule_in(due, after);
    }

    fn schedule_in(self: &Arc<Self>, due: Due, after: Duration) {
        let sweep = &self.sessions.sweep;
        sweep.schedule(Arc::downgrade(self), after, due);
    }

    /// Has the sweep see that the client takes something. It comes once, however often a client that
    /// reads slowly takes no more.
    fn watch_writes(self: &Arc<Self>) {
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            self.schedule(Due::Write);
        }
    }

    fn check_writes(self: &Arc<Self>) {
        let timeout = self.policy().write_timeout;
        match self.outbox.blocked_for() {
            Some(blocked) if blocked >= timeout => {
                tracing::debug!("a client ends that stopped reading");
                self.end_here(EndReason::TransportClose);
            }
            Some(blocked) => self.schedule_in(Due::Write, timeout - blocked),
            None => {
                self.is_watched.store(false, Ordering::Release);
                // It may take no more since just now, and whoever found out has relied on the sweep.
                if self.outbox.is_blocked() {
                    self.watch_writes();
                }
            }
        }
    }

    /// The sweep has come.
    pub(super) fn is_due(self: &Arc<Self>, due: Due) {
        if self.has_ended() {
            return;
        }
        match due {
            Due::Ping => self.ping(),
            Due::Pong(sent) if self.pinged.load(Ordering::Relaxed) == sent => {
                self.end_here(EndReason::PingTimeout);
            }
            Due::Pong(_) => {}
            Due::Join if self.inbox.lock().is_empty() => self.end_here(EndReason::TransportClose),
            Due::Join => {}
            Due::Write => self.check_writes(),
            Due::Close => self.end_here(EndReason::TransportClose),
        }
    }

    /// Whether the client should have answered a ping by now.
    pub(super) fn is_overdue(&self) -> bool {
        let pinged = self.pinged.load(Ordering::Relaxed);
        pinged != 0
            && self
                .sessions
                .sweep
                .has_passed(pinged, self.policy().ping_timeout)
    }

    fn ping(self: &Arc<Self>) {
        let now = self.sessions.sweep.now();
        let is_answered = self
            .pinged
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_answered && self.is_open() {
            self.send("2");
            self.schedule(Due::Pong(now));
        }
        self.schedule(Due::Ping);
    }
}

/// A Socket.IO packet as an Engine.IO message.
fn packet(kind: &str, namespace: &str, json: &str) -> String {
    match namespace {
        "/" => ["4", kind, json].concat(),
        namespace => ["4", kind, namespace, ",", json].concat(),
    }
}

pub(crate) mod in_process;
#[cfg(test)]
mod interleavings;
