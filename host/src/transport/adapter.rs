//! Raw packets to sockets and rooms: our own socketioxide adapter, one for each namespace.
//!
//! Packets go out as the JSON text they came as. socketioxide's own emit functions would
//! serialise it a second time.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use socketioxide::{AckError, adapter::Emitter};
use socketioxide_core::{
    Sid, Value,
    adapter::{
        BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter,
        SocketEmitter, errors::SocketError,
    },
    packet::Packet,
};

use crate::{
    config::{self, SlowClient},
    message::{Arguments, InvalidMessage, Message, join_event},
    recovery::{self, Former, Log, Target},
    transport::Sessions,
};

/// What finds a client: its engine.io session.
pub type SessionKey = Sid;

/// What finds a client's socket in a namespace. It is a secret, since whoever knows an engine.io session can take
/// it over, so it never leaves the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Its engine.io session.
    pub session: SessionKey,
    /// The first session of a connection that has come back.
    origin: SessionKey,
}

impl SocketKey {
    /// The key of a client that connects.
    pub fn new(session: SessionKey) -> Self {
        Self {
            session,
            origin: session,
        }
    }

    /// The key of a client that has come back in `session`.
    pub fn back_in(self, session: SessionKey) -> Self {
        Self { session, ..self }
    }

    /// Whether both are keys of the same connection, before or after it came back.
    pub fn is_same_client(&self, other: &Self) -> bool {
        self.origin == other.origin
    }
}

/// Sockets in this room get nothing but what they missed.
const CATCHING_UP: &str = "mixlab:catching-up";

/// The adapters of all namespaces by path.
pub struct Namespaces {
    adapters: RwLock<HashMap<String, Arc<Adapter>>>,
    dropped: AtomicU64,
    sessions: Arc<Sessions>,
    recovery: config::Recovery,
    slow_client: SlowClient,
}

impl Namespaces {
    /// No namespaces yet.
    pub fn new(recovery: config::Recovery, slow_client: SlowClient) -> Self {
        Self {
            adapters: RwLock::default(),
            dropped: AtomicU64::new(0),
            sessions: Arc::default(),
            recovery,
            slow_client,
        }
    }

    /// The sessions of the clients.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Counts packets that found send buffers full, and deals with the clients behind them.
    /// socketioxide does not say who they are: they are among `clients`, and take nothing.
    fn dropped(&self, dropped: usize, clients: &[SessionKey]) {
        self.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        if self.slow_client == SlowClient::Drop {
            return;
        }
        let sessions = clients
            .iter()
            .filter_map(|client| self.sessions.get(&client.to_string()));
        for session in sessions {
            if clients.len() == 1 || session.is_blocked() {
                session.end();
            }
        }
    }

    /// Packets that found a send buffer full, since the start.
    pub fn dropped_emits(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The adapter of a namespace that is being served.
    pub fn get(&self, path: &str) -> Option<Arc<Adapter>> {
        self.adapters
            .read()
            .expect("no holder panics")
            .get(path)
            .cloned()
    }
}

/// Which sockets of a namespace an event goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Sockets in at least one of these rooms; every socket if empty.
    pub rooms: Vec<String>,
    /// But not those in one of these.
    pub except: Vec<String>,
    /// Nor this one.
    pub except_socket: Option<SocketKey>,
}

impl Selection {
    /// The sockets in one room.
    pub fn room(room: impl Into<String>) -> Self {
        Self {
            rooms: vec![room.into()],
            except: Vec::new(),
            except_socket: None,
        }
    }
}

/// How far an emit got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Sockets whose send buffer took the packet.
    pub delivered: usize,
    /// Sockets whose send buffer was full.
    pub dropped: usize,
}

/// What a client that was asked answered.
pub type Answer = (SessionKey, Result<Message, Unanswered>);

/// Why a client did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Not in time, or with nothing that can be read. Nor does one that did not get the event
    /// because its send buffer was full.
    TimedOut,
    /// Its connection ended.
    Disconnected,
}

/// One namespace's door to its sockets.
pub struct Adapter {
    local: CoreLocalAdapter<Emitter>,
    namespaces: Arc<Namespaces>,
    /// None if nothing is recovered.
    log: Option<Mutex<Log<Packet>>>,
}

/// What a connection that has come back missed.
pub type Replay = recovery::Replay<Packet>;

impl Adapter {
    /// The namespace's path.
    pub fn namespace(&self) -> &str {
        self.local.path()
    }

    /// Emits an event to one socket.
    pub fn emit(
        &self,
        socket: SocketKey,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let mut options = BroadcastOptions::new(socket.session);
        if volatile {
            options.add_flag(BroadcastFlags::Volatile);
        }
        self.send(event, message, options, || Target::Socket(socket))
    }

    /// Emits an event to every socket of a selection; it is encoded once.
    pub fn broadcast(
        &self,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let mut options = self.options(&to);
        if volatile {
            options.add_flag(BroadcastFlags::Volatile);
        }
        self.send(event, message, options, || Target::Selection(to))
    }

    /// Emits an event to one socket, for its ack: the stream's only item, if it is still there.
    pub fn ask(
        &self,
        socket: SocketKey,
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> impl Stream<Item = Answer> + Send + use<> {
        let options = BroadcastOptions::new(socket.session);
        self.send_for_acks(event, message, options, timeout)
    }

    /// Emits an event to every socket of a selection. Each of them is one item of the stream.
    pub fn ask_all(
        &self,
        to: &Selection,
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> impl Stream<Item = Answer> + Send + use<> {
        self.send_for_acks(event, message, self.options(to), timeout)
    }

    /// The sockets of a selection.
    pub fn selected(&self, selection: &Selection) -> Vec<SessionKey> {
        self.local.sockets(self.options(selection))
    }

    /// Answers an event that asked for an ack.
    pub fn ack(&self, socket: SocketKey, id: i64, message: Message) -> Delivery {
        let value = value(message.arguments.into_string(), message.attachments);
        let packet = Packet::ack(self.local.path().clone(), value, id);
        let options = BroadcastOptions::new(socket.session);
        let delivery = delivery(self.local.broadcast(packet, options), 1);
        if delivery.dropped > 0 {
            self.namespaces.dropped(delivery.dropped, &[socket.session]);
        }
        delivery
    }

    /// Adds a socket to rooms.
    pub fn join(&self, socket: SocketKey, rooms: Vec<String>) {
        self.local.add_all(socket.session, rooms);
    }

    /// Removes a socket from rooms.
    pub fn leave(&self, socket: SocketKey, rooms: Vec<String>) {
        self.local.del(socket.session, rooms);
    }

    /// The rooms of a socket, sorted.
    pub fn rooms(&self, socket: SocketKey) -> Vec<String> {
        let mut rooms: Vec<String> = self
            .local
            .socket_rooms(socket.session)
            .into_iter()
            .filter(|room| room != CATCHING_UP)
            .map(Cow::into_owned)
            .collect();
        rooms.sort_unstable();
        rooms
    }

    /// Whether connections can come back here.
    pub fn recovers(&self) -> bool {
        self.log.is_some()
    }

    /// Keeps a connection that dropped. Called before it leaves its rooms.
    pub fn keep(&self, former: Former) {
        if let Some(log) = &self.log {
            log.lock().expect("no holder panics").keep(former);
        }
    }

    /// The connection of a client that is back and has seen the events up to `place`, with the
    /// number of the next one; see [`Log::take`].
    pub fn take_former(&self, pid: &str, place: &str) -> Option<(Former, u64)> {
        let mut log = self.log.as_ref()?.lock().expect("no holder panics");
        log.take(pid, place)
    }

    /// Puts a connection that has come back into its rooms. It gets nothing before
    /// [`Adapter::catch_up`].
    pub fn resume(&self, socket: SocketKey, former: Former, next: u64) -> Option<Replay> {
        let log = self.log.as_ref()?.lock().expect("no holder panics");
        let mut rooms = former.rooms.clone();
        rooms.push(CATCHING_UP.to_owned());
        self.join(socket, rooms);
        log.missed(former, next)
    }

    /// Sends a connection what it missed; from now on it gets what others get. False if some of
    /// it is gone, so that the connection must end: a part would pass for the whole.
    pub fn catch_up(&self, socket: SocketKey, replay: Replay) -> bool {
        let Some(log) = &self.log else { return false };
        // Held to the end, so that whatever is sent meanwhile comes behind.
        let log = log.lock().expect("no holder panics");
        let Some(packets) = log.finish(replay) else {
            return false;
        };
        let send = |packet| {
            let sent = self
                .local
                .broadcast(packet, BroadcastOptions::new(socket.session));
            delivery(sent, 1).dropped == 0
        };
        let complete = packets.into_iter().all(send);
        self.leave(socket, vec![CATCHING_UP.to_owned()]);
        complete
    }

    fn options(&self, selection: &Selection) -> BroadcastOptions {
        let mut options = BroadcastOptions::default();
        options.rooms = selection.rooms.iter().cloned().map(Cow::Owned).collect();
        options.except = selection.except.iter().cloned().map(Cow::Owned).collect();
        options.sid = selection.except_socket.map(|socket| socket.session);
        if self.log.is_some() {
            options.except.push(CATCHING_UP.into());
        }
        // The flag means "not to `sid`"; without rooms it is also what selects everybody.
        options.add_flag(BroadcastFlags::Broadcast);
        options
    }

    /// Events with acks are not logged for clients that come back: as in Node, there would be
    /// nobody left who waits for the ack.
    fn send_for_acks(
        &self,
        event: &str,
        message: Message,
        options: BroadcastOptions,
        timeout: Duration,
    ) -> impl Stream<Item = Answer> + Send + use<> {
        let json = join_event(event, &message.arguments);
        let packet = Packet::event(self.local.path().clone(), value(json, message.attachments));
        let (acks, _) = self
            .local
            .broadcast_with_ack(packet, options, Some(timeout));
        let namespaces = self.namespaces.clone();
        acks.map(move |(client, ack)| {
            if let Err(AckError::Socket(SocketError::InternalChannelFull)) = ack {
                namespaces.dropped(1, &[client]);
            }
            (client, answered(ack))
        })
    }

    fn send(
        &self,
        event: &str,
        message: Message,
        options: BroadcastOptions,
        target: impl FnOnce() -> Target,
    ) -> Delivery {
        let volatile = options.has_flag(BroadcastFlags::Volatile);
        // Held while the event is sent: every client gets events in the order of the log.
        let mut log = match &self.log {
            Some(log) if !volatile => Some(log.lock().expect("no holder panics")),
            _ => None,
        };
        let recipients = self.local.sockets(options.clone());
        if recipients.is_empty() && !log.as_ref().is_some_and(|log| log.is_waited_for()) {
            return Delivery::default();
        }
        let mut json = join_event(event, &message.arguments);
        if let Some(log) = &log {
            push_argument(&mut json, &log.place());
        }
        let size = json.len() + message.attachments.iter().map(Bytes::len).sum::<usize>();
        let packet = Packet::event(self.local.path().clone(), value(json, message.attachments));
        if let Some(log) = &mut log {
            log.push(target(), packet.clone(), size);
        }
        let delivery = delivery(self.local.broadcast(packet, options), recipients.len());
        drop(log);
        if delivery.dropped > 0 {
            self.namespaces.dropped(delivery.dropped, &recipients);
            tracing::warn!(
                namespace = self.namespace(),
                event,
                dropped = delivery.dropped,
                "clients that read too slowly missed an event: their send buffers are full"
            );
        }
        delivery
    }
}

fn answered(ack: Result<Value, AckError>) -> Result<Message, Unanswered> {
    match ack {
        Ok(Value::Str(text, attachments)) => {
            let attachments = attachments.map(Vec::from).unwrap_or_default();
            let message = Arguments::parse(text.as_str().to_owned())
                .map_err(InvalidMessage::from)
                .and_then(|arguments| Message::new(arguments, attachments));
            message.map_err(|error| {
                tracing::debug!(%error, "an ack cannot be read");
                Unanswered::TimedOut
            })
        }
        Err(AckError::Socket(SocketError::Closed)) => Err(Unanswered::Disconnected),
        Ok(Value::Bytes(_)) | Err(_) => Err(Unanswered::TimedOut),
    }
}

/// Adds a plain text to the array of an EVENT packet.
fn push_argument(json: &mut String, text: &str) {
    json.pop();
    json.push_str(",\"");
    json.push_str(text);
    json.push_str("\"]");
}

fn value(json: String, attachments: Vec<Bytes>) -> Value {
    let attachments = (!attachments.is_empty()).then(|| VecDeque::from(attachments));
    Value::Str(json.into(), attachments)
}

/// A socket that is gone is no loss: nobody was there to receive.
fn delivery(result: Result<(), Vec<SocketError>>, recipients: usize) -> Delivery {
    let errors = result.err().unwrap_or_default();
    let dropped = errors
        .iter()
        .filter(|error| matches!(error, SocketError::InternalChannelFull))
        .count();
    Delivery {
        delivered: recipients.saturating_sub(errors.len()),
        dropped,
    }
}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = Arc<Namespaces>;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(namespaces: &Arc<Namespaces>, local: CoreLocalAdapter<Emitter>) -> Self {
        let recovery = &namespaces.recovery;
        let log = || Mutex::new(Log::new(recovery.clone()));
        Self {
            local,
            namespaces: namespaces.clone(),
            log: recovery.enabled.then(log),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        let path = self.namespace().to_owned();
        let namespaces = self.namespaces.clone();
        namespaces
            .adapters
            .write()
            .expect("no holder panics")
            .insert(path, self);
        on_success();
    }

    async fn close(&self) -> Result<(), Infallible> {
        self.namespaces
            .adapters
            .write()
            .expect("no holder panics")
            .remove(self.namespace());
        Ok(())
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.local.broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl DefinedAdapter for Adapter {}
