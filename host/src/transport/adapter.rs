//! Packets to sockets and rooms: our own socketioxide adapter, one for each namespace.
//!
//! Packets go out as the JSON text they came as, encoded once for all who get them. socketioxide
//! knows the rooms, and serves the clients that poll; packets for websockets do not pass it.

use std::{
    borrow::Cow,
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::select_all};
use socketioxide::{AckError, adapter::Emitter};
use socketioxide_core::{
    Sid, Value,
    adapter::{
        BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter,
        SocketEmitter, errors::SocketError,
    },
    packet,
};
use tokio::runtime::Handle;

use super::{
    members::{Members, Selection},
    namespaces::Namespaces,
    outbox::Pushed,
    packet::Packet,
    presence::Presence,
    session::Session,
};
use crate::{
    message::{Arguments, InvalidMessage, Message},
    recovery::{Former, Journal, Replay, Returning, Stream},
    user::UserId,
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

/// So many clients are written to by whoever sends; with more, tasks do it, for so many each.
const WRITTEN_AT_ONCE: usize = 64;

/// Sockets in this room get nothing but what they missed.
const CATCHING_UP: &str = "mixlab:catching-up";

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
    members: RwLock<Members>,
    /// Those of them whose clients can come back.
    presence: Presence,
    namespaces: Arc<Namespaces>,
    /// How many connections there are, also those that are not let in yet or have just ended.
    connections: AtomicUsize,
    /// None if nothing is recovered.
    journal: Option<Journal>,
}

impl Adapter {
    /// The namespace's path.
    pub fn namespace(&self) -> &str {
        self.local.path()
    }

    /// A connection holds it, so that its namespace stays open.
    pub fn hold(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection is over.
    pub fn release(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether somebody is connected, or may come back.
    pub fn is_used(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
            || self.journal.as_ref().is_some_and(Journal::is_waited_for)
    }

    /// Gives back what is kept for clients to come back, as far as none can any more; returns how
    /// many can.
    pub fn sweep(&self) -> usize {
        let sweep =
            |journal: &Journal| journal.sweep(self.connections.load(Ordering::Relaxed) == 0);
        self.journal.as_ref().map_or(0, sweep)
    }

    /// Tells the client with this public id that its socket is connected, and sends it from now on
    /// what is for it. With `pid` it can come back.
    pub fn enter(&self, socket: SocketKey, id: &str, pid: Option<&str>, session: &Arc<Session>) {
        if let Some(pid) = pid {
            self.presence.enter(pid.to_owned(), socket.session);
        }
        // Nobody sends it anything before the client knows, and nobody who reacts to the client
        // finds it missing.
        let mut members = self.members.write().expect("no holder panics");
        session.introduce(self.namespace());
        members.insert(socket.session, id, session.clone());
    }

    /// A socket has ended, that of the client with `pid` if it can come back.
    pub fn remove(&self, socket: SocketKey, id: &str, pid: Option<&str>) {
        let mut members = self.members.write().expect("no holder panics");
        members.remove(socket.session, id);
        drop(members);
        if let Some(pid) = pid {
            self.presence.leave(pid, socket.session);
        }
    }

    /// Emits an event to one connection: to its socket, or where there is a stream to the socket
    /// that it has by now.
    pub fn emit(
        &self,
        socket: SocketKey,
        session: &Session,
        stream: Option<&Stream>,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let encode = |place: Option<&str>| Packet::event(self.namespace(), event, message, place);
        let (Some(journal), Some(stream)) = (&self.journal, stream) else {
            let pushed = self.push(&encode(None), socket.session, session, volatile);
            return self.finish(event, pushed, session);
        };
        let push = |here: SessionKey, packet: &Packet| {
            if here == socket.session {
                return (self.push(packet, here, session, volatile), None);
            }
            match self.member(here) {
                Some(session) => (self.push(packet, here, &session, volatile), Some(session)),
                None => (Pushed::Closed, None),
            }
        };
        match journal.emit(stream, volatile, |place| encode(Some(place)), push) {
            Some((pushed, moved)) => {
                self.finish(event, pushed, moved.as_deref().unwrap_or(session))
            }
            None => Delivery::default(),
        }
    }

    /// Emits an event to every socket of a selection; it is encoded once.
    pub fn broadcast(
        &self,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        // Held until it is in all outboxes.
        let mut log = self.journal.as_ref().map(Journal::broadcasts);
        let recipients = self.members(&self.sockets(&to));
        let is_kept = !volatile && log.as_ref().is_some_and(|log| log.is_waited_for());
        if recipients.is_empty() && !is_kept {
            return Delivery::default();
        }
        let encode = |place: Option<&str>| Packet::event(self.namespace(), event, message, place);
        let packet = match &mut log {
            Some(log) if volatile => log.pass(|place| encode(Some(place))),
            Some(log) => log.push(to, |place| encode(Some(place))),
            None => encode(None),
        };
        let pushed: Vec<_> = recipients
            .iter()
            .map(|(socket, session)| self.push(&packet, *socket, session, volatile))
            .collect();
        drop(log);
        let sessions = recipients.iter().map(|(_, session)| &**session);
        let delivery = self.account(event, pushed.iter().copied().zip(sessions));
        let waiting = recipients.into_iter().zip(pushed);
        let waiting = waiting.filter(|(_, pushed)| *pushed == Pushed::Waiting);
        write(waiting.map(|((_, session), _)| session).collect());
        delivery
    }

    /// Emits an event to one socket, for its ack: the stream's only item, if it is still there.
    pub fn ask(
        &self,
        socket: SocketKey,
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> impl futures_util::Stream<Item = Answer> + Send + use<> {
        self.ask_all(&[socket.session], event, message, timeout)
    }

    /// Emits an event to sockets, for their acks: an item of the stream for each that is still
    /// there.
    ///
    /// socketioxide sends these, as it knows who has acked. What was emitted before is on its way
    /// already. They are not logged for clients that come back: as in Node, there would be nobody
    /// left who waits for the ack.
    pub fn ask_all(
        &self,
        sockets: &[SessionKey],
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> impl futures_util::Stream<Item = Answer> + Send + use<> {
        let packet = Packet::event(self.namespace(), event, message, None);
        let packet = packet.to_socketioxide(self.local.path());
        let asked = sockets.iter().map(|socket| {
            let options = BroadcastOptions::new(*socket);
            let (acks, _) = self
                .local
                .broadcast_with_ack(packet.clone(), options, Some(timeout));
            acks.boxed()
        });
        select_all(asked).map(|(client, ack)| (client, answered(ack)))
    }

    /// The sockets of a selection whose clients know that they are connected, but for those that
    /// are catching up.
    pub fn selected(&self, selection: &Selection) -> Vec<SessionKey> {
        let members = self.members(&self.sockets(selection));
        members.into_iter().map(|(socket, _)| socket).collect()
    }

    /// The same, also of those that do not know yet. A plugin may name very many: no name costs more
    /// than a look-up.
    fn sockets(&self, selection: &Selection) -> Vec<SessionKey> {
        let Selection {
            rooms,
            sockets,
            except,
            ..
        } = selection;
        let options = self.options(selection);
        if sockets.is_empty() && except.is_empty() {
            return self.local.sockets(options);
        }
        let with_id = |ids: &[String]| -> HashSet<SessionKey> {
            let members = self.members.read().expect("no holder panics");
            ids.iter().filter_map(|id| members.socket(id)).collect()
        };
        let mut selected = with_id(sockets);
        if !selected.is_empty() && !options.except.is_empty() {
            let mut excepted = BroadcastOptions::default();
            excepted.rooms = options.except.clone();
            for socket in self.local.sockets(excepted) {
                selected.remove(&socket);
            }
        }
        if let Some(sender) = options.sid {
            selected.remove(&sender);
        }
        if !rooms.is_empty() || sockets.is_empty() {
            selected.extend(self.local.sockets(options));
        }
        let excepted = with_id(except);
        selected.difference(&excepted).copied().collect()
    }

    /// Answers an event that asked for an ack.
    pub fn ack(&self, socket: SocketKey, session: &Session, id: i64, message: Message) {
        let packet = Packet::ack(self.namespace(), id, message);
        let pushed = self.push(&packet, socket.session, session, false);
        self.finish("(ack)", pushed, session);
    }

    /// Has the server end a socket, behind what has been sent to it. False if there is no room to
    /// tell the client.
    pub fn disconnect(&self, socket: SocketKey) -> bool {
        let options = BroadcastOptions::new(socket.session);
        self.local.disconnect_socket(options).is_ok()
    }

    /// Adds a connection to rooms; see [`Adapter::emit`].
    pub fn join(&self, socket: SocketKey, stream: Option<&Stream>, rooms: Vec<String>) {
        let join = |session, rooms| self.local.add_all(session, rooms);
        match (&self.journal, stream) {
            (Some(journal), Some(stream)) => {
                journal.change_rooms(stream, rooms, true, join, |session, room| {
                    self.local.socket_rooms(session).contains(room)
                });
            }
            _ => join(socket.session, rooms),
        }
    }

    /// Removes a connection from rooms; see [`Adapter::emit`].
    pub fn leave(&self, socket: SocketKey, stream: Option<&Stream>, rooms: Vec<String>) {
        let leave = |session, rooms| self.local.del(session, rooms);
        match (&self.journal, stream) {
            (Some(journal), Some(stream)) => {
                journal.change_rooms(stream, rooms, false, leave, |session, room| {
                    self.local.socket_rooms(session).contains(room)
                });
            }
            _ => leave(socket.session, rooms),
        }
    }

    /// Removes a socket that has ended from all rooms.
    pub fn leave_all(&self, socket: SocketKey) {
        self.local.del_all(socket.session);
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

    /// The stream of a new connection; none if connections cannot come back here.
    pub fn begin(&self, socket: SocketKey) -> Option<Arc<Stream>> {
        let journal = self.journal.as_ref()?;
        Some(journal.begin(socket.session))
    }

    /// Notes that a connection has lost its socket, and keeps what `former` makes of it. Called
    /// before the socket leaves its rooms.
    pub fn end(&self, socket: SocketKey, stream: &Stream, former: impl FnOnce() -> Option<Former>) {
        if let Some(journal) = &self.journal {
            journal.end(stream, socket.session, former);
        }
    }

    /// Has `end` end the connection that a client has still, as far as is known here, while it is
    /// back over another one, and returns when it is gone; at once if `end` says that it stays.
    pub async fn supersede(
        &self,
        pid: &str,
        socket: SessionKey,
        end: impl FnOnce(SessionKey) -> bool,
    ) {
        self.presence.supersede(pid, socket, end).await;
    }

    /// The connection of a client that is back as `user`; see [`Journal::take`].
    pub fn take_former(
        &self,
        pid: &str,
        offset: Option<&str>,
        user: Option<&UserId>,
    ) -> Option<Returning> {
        self.journal.as_ref()?.take(pid, offset, user)
    }

    /// Puts a connection that has come back into its rooms. It gets nothing before
    /// [`Adapter::catch_up`].
    pub fn resume(&self, socket: SocketKey, returning: Returning) -> Option<Replay> {
        let mut rooms = returning.former.rooms.clone();
        rooms.push(CATCHING_UP.to_owned());
        let join = || self.local.add_all(socket.session, rooms);
        self.journal
            .as_ref()?
            .resume(socket.session, returning, join)
    }

    /// Sends a connection what it missed; from now on it gets what others get. False if some of
    /// it is gone, so that the connection must end.
    pub fn catch_up(&self, socket: SocketKey, session: &Session, replay: Replay) -> bool {
        let Some(journal) = &self.journal else {
            return false;
        };
        let rooms = || self.rooms(socket);
        let send = |packets: &[Packet]| self.push_all(packets, socket.session, session);
        let leave = || self.local.del(socket.session, vec![CATCHING_UP.to_owned()]);
        let complete = journal.catch_up(socket.session, replay, rooms, send, leave);
        session.flush();
        complete
    }

    fn options(&self, selection: &Selection) -> BroadcastOptions {
        let mut options = BroadcastOptions::default();
        options.rooms = selection.rooms.iter().cloned().map(Cow::Owned).collect();
        options.except = selection.except.iter().cloned().map(Cow::Owned).collect();
        options.sid = selection.except_socket.map(|socket| socket.session);
        if self.journal.is_some() {
            options.except.push(CATCHING_UP.into());
        }
        // The flag means "not to `sid`"; without rooms it is also what selects everybody.
        options.add_flag(BroadcastFlags::Broadcast);
        options
    }

    fn member(&self, socket: SessionKey) -> Option<Arc<Session>> {
        let members = self.members.read().expect("no holder panics");
        members.session(socket).cloned()
    }

    /// Those of the sockets that are connected.
    fn members(&self, sockets: &[SessionKey]) -> Vec<(SessionKey, Arc<Session>)> {
        let members = self.members.read().expect("no holder panics");
        let member = |socket: &SessionKey| Some((*socket, members.session(*socket)?.clone()));
        sockets.iter().filter_map(member).collect()
    }

    /// Hands a packet over to a client's transport.
    fn push(
        &self,
        packet: &Packet,
        socket: SessionKey,
        session: &Session,
        volatile: bool,
    ) -> Pushed {
        let outbox = &session.outbox;
        let push = || outbox.push(packet.frames(), volatile);
        match push() {
            // socketioxide's own volatile packets overtake others.
            Pushed::Polling if volatile && outbox.has_waiting() => Pushed::Skipped,
            Pushed::Polling => outbox
                .push_to_poll(packet.size(), || self.push_to_poll(packet, socket))
                // It has got a websocket meanwhile.
                .unwrap_or_else(push),
            pushed => pushed,
        }
    }

    /// Hands over packets in one go; false if there is no room for all of them.
    fn push_all(&self, packets: &[Packet], socket: SessionKey, session: &Session) -> bool {
        let frames: Vec<&[u8]> = packets.iter().map(|packet| &packet.frames()[..]).collect();
        // One packet to the outbox: the log bounds how large they are, so their number does not matter.
        let frames = Bytes::from(frames.concat());
        let outbox = &session.outbox;
        let push = || outbox.push(&frames, false);
        let poll = || {
            let mut pushed = packets
                .iter()
                .map(|packet| self.push_to_poll(packet, socket));
            pushed
                .find(|pushed| *pushed != Pushed::Taken)
                .unwrap_or(Pushed::Taken)
        };
        let pushed = match push() {
            Pushed::Polling => {
                let size = packets.iter().map(Packet::size).sum();
                outbox.push_to_poll(size, poll).unwrap_or_else(push)
            }
            pushed => pushed,
        };
        matches!(pushed, Pushed::Taken | Pushed::Waiting)
    }

    fn push_to_poll(&self, packet: &Packet, socket: SessionKey) -> Pushed {
        let options = BroadcastOptions::new(socket);
        let packet = packet.to_socketioxide(self.local.path());
        match self.local.broadcast(packet, options).err().as_deref() {
            None | Some([]) => Pushed::Taken,
            Some([SocketError::InternalChannelFull, ..]) => Pushed::Full,
            Some(_) => Pushed::Closed,
        }
    }

    /// Writes a packet that was pushed, and counts what became of it.
    fn finish(&self, event: &str, pushed: Pushed, session: &Session) -> Delivery {
        if pushed == Pushed::Waiting {
            session.flush();
        }
        self.account(event, [(pushed, session)])
    }

    /// Counts what became of a packet. A client that is gone is no loss: nobody was there to
    /// receive.
    fn account<'a>(
        &self,
        event: &str,
        pushed: impl IntoIterator<Item = (Pushed, &'a Session)>,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        for (pushed, session) in pushed {
            match pushed {
                Pushed::Taken | Pushed::Waiting => delivery.delivered += 1,
                Pushed::Full => {
                    delivery.dropped += 1;
                    self.namespaces.dropped(session);
                }
                Pushed::Skipped | Pushed::Closed | Pushed::Polling => {}
            }
        }
        if delivery.dropped > 0 {
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

/// Writes to many clients without keeping the sender from its own work for long.
fn write(mut waiting: Vec<Arc<Session>>) {
    while waiting.len() > WRITTEN_AT_ONCE
        && let Ok(runtime) = Handle::try_current()
    {
        let part = waiting.split_off(waiting.len() - WRITTEN_AT_ONCE);
        runtime.spawn(async move { part.iter().for_each(|session| session.flush()) });
    }
    waiting.iter().for_each(|session| session.flush());
}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = Arc<Namespaces>;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(namespaces: &Arc<Namespaces>, local: CoreLocalAdapter<Emitter>) -> Self {
        let recovery = namespaces.recovery();
        let journal = || Journal::new(recovery.clone());
        Self {
            local,
            members: RwLock::default(),
            presence: Presence::default(),
            connections: AtomicUsize::new(0),
            namespaces: namespaces.clone(),
            journal: recovery.is_enabled().then(journal),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        let namespaces = self.namespaces.clone();
        namespaces.insert(self);
        on_success();
    }

    async fn close(&self) -> Result<(), Infallible> {
        self.namespaces.remove(self.namespace());
        Ok(())
    }

    async fn broadcast_with_ack(
        &self,
        packet: packet::Packet,
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
