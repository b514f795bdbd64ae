//! Packets to sockets and rooms: one adapter for each namespace.
//!
//! Packets go out as the JSON text they came as, encoded once for all who get them. socketioxide's own
//! adapter knows the rooms.

use std::{
    borrow::Cow,
    collections::HashSet,
    iter::Sum,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::Stream as Answers;
use serde::Serialize;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions, CoreLocalAdapter};
use tokio::{runtime::Handle, task::yield_now};

use super::{
    ask::{Answer, Asks},
    emitter::Emitter,
    members::SharedMembers,
    namespaces::Dropped,
    packet::Packet,
    present::Present,
    rooms::{MaxRooms, TooManyRooms},
    selection::Selection,
};
use crate::{
    address::ClientAddress,
    cluster::{Cluster, EntryId, Kept, Written},
    message::Message,
    presence::Presence,
    recovery::{Common, Former, Journal, Log, NO_PLACE, Replay, Returning, Stream},
    transport::{
        engine::{Ended, Forms, Pushed, Session},
        key::{SessionKey, SocketKey},
    },
    user::UserId,
};

/// So many clients are written to by whoever sends; the others by tasks, so many in a row.
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

impl Sum for Delivery {
    fn sum<I: Iterator<Item = Self>>(deliveries: I) -> Self {
        deliveries.fold(Self::default(), |sum, delivery| Self {
            delivered: sum.delivered + delivery.delivered,
            dropped: sum.dropped + delivery.dropped,
        })
    }
}

/// One namespace's door to its sockets.
pub struct Adapter {
    local: CoreLocalAdapter<Emitter>,
    members: Arc<SharedMembers>,
    /// Those of them whose clients can come back.
    present: Present,
    asks: Arc<Asks>,
    presence: Arc<Presence>,
    dropped: Arc<Dropped>,
    /// How many connections there are, also those that are not let in yet or have just ended.
    connections: AtomicUsize,
    max_rooms: MaxRooms,
    /// None on a server on its own.
    cluster: Option<Arc<Cluster>>,
    /// None if nothing is recovered.
    journal: Option<Journal>,
}

/// The answer to the CONNECT of a client that is let in.
#[derive(Serialize)]
struct Introduction<'a> {
    /// What the client sees as `socket.id`. Not the session's id: whoever knows that one can take a
    /// polling session over, and clients show `socket.id` to each other.
    sid: &'a str,
    /// What the client shows when it comes back; none if it need not try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<&'a str>,
}

impl Adapter {
    /// The adapter of the namespace at `path`, without sockets.
    pub(crate) fn new(
        path: &str,
        recovery: &Arc<Common>,
        presence: Arc<Presence>,
        dropped: Arc<Dropped>,
        max_rooms: MaxRooms,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        let members: Arc<SharedMembers> = Arc::default();
        let journal = || Journal::new(recovery.clone());
        Self {
            local: CoreLocalAdapter::new(Emitter::new(path, members.clone())),
            members,
            present: Present::default(),
            asks: Arc::default(),
            presence,
            dropped,
            connections: AtomicUsize::new(0),
            max_rooms,
            cluster,
            journal: recovery.is_enabled().then(journal),
        }
    }

    /// The namespace's path.
    pub fn namespace(&self) -> &str {
        self.local.path()
    }

    /// Who is present in rooms.
    pub fn presence(&self) -> &Presence {
        &self.presence
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
            self.present.enter(pid.to_owned(), socket.session);
        }
        let introduction =
            serde_json::to_string(&Introduction { sid: id, pid }).expect("texts always serialise");
        // Nobody sends it anything before the client is told, and nobody who reacts to the client
        // finds it missing.
        let mut members = self.members.write();
        session.introduce(self.namespace(), &introduction);
        members.insert(socket.session, id, session.clone());
    }

    /// A socket has ended, that of the client with `pid` if it can come back.
    pub fn remove(&self, socket: SocketKey, id: &str, pid: Option<&str>) {
        self.members.write().remove(socket.session, id);
        self.local.del_all(socket.session);
        self.asks.is_gone(socket.session);
        if let Some(pid) = pid {
            self.present.leave(pid, socket.session);
        }
    }

    /// The namespace is served no more: ends all connections to it. They are to be told.
    pub(crate) fn end_connections(&self) -> Vec<Ended> {
        let members = self.members.read();
        let named = members.named();
        let named: Vec<_> = named
            .map(|(id, session)| (id.to_owned(), session.clone()))
            .collect();
        drop(members);
        let end =
            |(id, session): (String, Arc<Session>)| session.take_connection(self.namespace(), &id);
        named.into_iter().filter_map(end).collect()
    }

    /// Emits an event to one connection: to its socket, or where there is a stream to the socket
    /// that it has by now.
    pub fn emit(
        &self,
        socket: SocketKey,
        session: &Arc<Session>,
        stream: Option<&Stream>,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let encode = |place: Option<&str>| Packet::event(self.namespace(), event, message, place);
        let (Some(journal), Some(stream)) = (&self.journal, stream) else {
            let pushed = session.push(&encode(None).forms(), volatile);
            return self.finish(event, pushed, session);
        };
        let push = |here: SessionKey, packet: &Packet| {
            if here == socket.session {
                return (session.push(&packet.forms(), volatile), None);
            }
            match self.member(here) {
                Some(session) => (session.push(&packet.forms(), volatile), Some(session)),
                None => (Pushed::Closed, None),
            }
        };
        match journal.emit(stream, volatile, |place| encode(Some(place)), push) {
            Some((pushed, moved)) => self.finish(event, pushed, moved.as_ref().unwrap_or(session)),
            None => Delivery::default(),
        }
    }

    /// Emits an event to every socket of a selection; it is encoded once. In a cluster it was read in an
    /// `entry` of the stream.
    pub(crate) fn broadcast(
        &self,
        entry: Option<EntryId>,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        // Held until it is in all outboxes.
        let mut log = self.journal.as_ref().map(Journal::broadcasts);
        let recipients = self.members(&self.sockets(&to));
        let is_waited_for = |log: &Log| entry.is_some() || log.is_waited_for();
        let is_kept = !volatile && log.as_deref().is_some_and(is_waited_for);
        if recipients.is_empty() && !is_kept {
            return Delivery::default();
        }
        let event_of =
            |message, place: Option<&str>| Packet::event(self.namespace(), event, message, place);
        let is_ahead = self.journal.as_ref().is_some_and(Journal::is_ahead);
        let without_place = is_ahead.then(|| event_of(message.clone(), Some(NO_PLACE)));
        let encode = |place: Option<&str>| event_of(message, place);
        let packet = match &mut log {
            Some(log) if volatile => log.pass(entry, |place| encode(Some(place))),
            Some(log) => log.push(entry, to, |place| encode(Some(place))),
            None => encode(None),
        };
        let packet = without_place.unwrap_or(packet);
        self.push(event, &packet, recipients, volatile, move || drop(log))
    }

    /// Puts a packet into outboxes, then `unlock`s the log, and writes.
    fn push(
        &self,
        event: &str,
        packet: &Packet,
        recipients: Vec<(SessionKey, Arc<Session>)>,
        volatile: bool,
        unlock: impl FnOnce(),
    ) -> Delivery {
        let forms = packet.forms();
        let pushed: Vec<_> = recipients
            .iter()
            .map(|(_, session)| session.push(&forms, volatile))
            .collect();
        unlock();
        let sessions = recipients.iter().map(|(_, session)| session);
        let delivery = self.account(event, pushed.iter().copied().zip(sessions));
        let waiting = recipients.into_iter().zip(pushed);
        let waiting = waiting.filter(|(_, pushed)| *pushed == Pushed::Waiting);
        write(waiting.map(|((_, session), _)| session).collect());
        delivery
    }

    /// Emits an event while the cluster's Redis is away. It has no place that anybody could come back to: it
    /// will have one when it is in the stream.
    pub(crate) fn broadcast_alone(
        &self,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) {
        // Held until it is in all outboxes.
        let log = self.journal.as_ref().map(Journal::broadcasts);
        let recipients = self.members(&self.sockets(&to));
        let place = log.as_ref().map(|_| NO_PLACE);
        let packet = Packet::event(self.namespace(), event, message, place);
        self.push(event, &packet, recipients, volatile, move || drop(log));
    }

    /// It gets, or has got, all broadcasts from this one on.
    pub(crate) fn start_at(&self, entry: EntryId) {
        if let Some(journal) = &self.journal {
            journal.start_at(entry.number());
        }
    }

    /// A broadcast was sent before this server was there, and is for those only who come here from others.
    pub(crate) fn remember(&self, entry: EntryId, to: Selection, event: &str, message: Message) {
        if let Some(journal) = &self.journal {
            let encode = |place: &str| Packet::event(self.namespace(), event, message, Some(place));
            journal.broadcasts().push(Some(entry), to, encode);
        }
    }

    /// Entries of the cluster's stream were lost: who drops now, or has dropped, starts afresh.
    pub(crate) fn interrupt(&self) {
        if let Some(journal) = &self.journal {
            journal.interrupt();
        }
    }

    /// Emits an event to sockets, for their acks: an item of the stream for each that is still there.
    ///
    /// They are not logged for clients that come back: as in Node, there would be nobody left who
    /// waits for the ack.
    pub fn ask(
        &self,
        sockets: &[SessionKey],
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> impl Answers<Item = Answer> + Send + use<> {
        let recipients = self.members(sockets);
        let asked = recipients.iter().map(|(socket, _)| *socket).collect();
        let (id, answers) = self.asks.open(asked, timeout);
        let packet = Packet::question(self.namespace(), id, event, message);
        let forms = packet.forms();
        for (_, session) in &recipients {
            let pushed = session.push(&forms, false);
            self.finish(event, pushed, session);
        }
        answers
    }

    /// A client has answered what it was asked with this number.
    pub fn answered(&self, socket: SocketKey, id: i64, message: Message) {
        self.asks.answer(id, (socket.session, Ok(message)));
    }

    /// The sockets of a selection whose clients know that they are connected, but for those that
    /// are catching up.
    pub fn selected(&self, selection: &Selection) -> Vec<SessionKey> {
        let members = self.members(&self.sockets(selection));
        members.into_iter().map(|(socket, _)| socket).collect()
    }

    /// The rooms that some socket is in, also one that is not let in yet.
    pub(crate) fn all_rooms(&self) -> HashSet<Cow<'static, str>> {
        self.local.rooms(self.options(&Selection::default()))
    }

    /// How many sockets are connected.
    pub(crate) fn size(&self) -> usize {
        self.members.read().len()
    }

    /// How many these are.
    pub fn count(&self, selection: &Selection) -> usize {
        let sockets = self.sockets(selection);
        let members = self.members.read();
        let is_here = |socket: &&SessionKey| members.session(**socket).is_some();
        sockets.iter().filter(is_here).count()
    }

    /// The sockets of a selection, also of those that do not know yet. A plugin may name very many: no name costs more
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
            let members = self.members.read();
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
    pub fn ack(&self, session: &Arc<Session>, id: i64, message: Message) {
        let packet = Packet::ack(self.namespace(), id, message);
        let pushed = session.push(&packet.forms(), false);
        self.finish("(ack)", pushed, session);
    }

    /// Adds a connection to rooms of the host; see [`Adapter::emit`].
    pub fn join(&self, socket: SocketKey, stream: Option<&Stream>, rooms: Vec<String>) {
        self.change_rooms(socket, stream, rooms, true, |session, rooms| {
            self.local.add_all(session, rooms);
            true
        });
    }

    /// Adds a connection to a room of plugins, if it is in fewer than it may be; see [`Adapter::emit`]. The
    /// caller sees to it that a connection joins one at a time.
    pub(crate) fn join_one_more(
        &self,
        socket: SocketKey,
        stream: Option<&Stream>,
        room: String,
    ) -> Result<(), TooManyRooms> {
        let mut admitted = Ok(());
        self.change_rooms(
            socket,
            stream,
            vec![room.clone()],
            true,
            |session, rooms| {
                let mut joined = self.local.socket_rooms(session);
                joined.remove(CATCHING_UP);
                admitted = self
                    .max_rooms
                    .admit(joined.iter().map(AsRef::as_ref), &room);
                if admitted.is_ok() {
                    self.local.add_all(session, rooms);
                }
                admitted.is_ok()
            },
        );
        admitted
    }

    /// How many rooms a connection may be in.
    pub(crate) fn max_rooms(&self) -> MaxRooms {
        self.max_rooms
    }

    /// Removes a connection from rooms; see [`Adapter::emit`].
    pub fn leave(&self, socket: SocketKey, stream: Option<&Stream>, rooms: Vec<String>) {
        self.change_rooms(socket, stream, rooms, false, |session, rooms| {
            self.local.del(session, rooms);
            true
        });
    }

    fn change_rooms(
        &self,
        socket: SocketKey,
        stream: Option<&Stream>,
        rooms: Vec<String>,
        joined: bool,
        change: impl FnOnce(SessionKey, Vec<String>) -> bool,
    ) -> bool {
        match (&self.journal, stream) {
            (Some(journal), Some(stream)) => {
                journal.change_rooms(stream, rooms, joined, change, |session, room| {
                    self.local.socket_rooms(session).contains(room)
                })
            }
            _ => change(socket.session, rooms),
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
        self.present.supersede(pid, socket, end).await;
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

    /// The cluster, if this server is in one.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The connection of a client that had it on another server; see [`Journal::adopt`].
    pub(crate) fn adopt(
        &self,
        kept: Kept,
        offset: Option<&str>,
        address: ClientAddress,
    ) -> Option<Returning> {
        let Kept {
            carried, events, ..
        } = kept;
        self.journal
            .as_ref()?
            .adopt(carried, events, offset, address)
    }

    /// What other servers are to know of a connection; none on a server on its own.
    pub(crate) fn carry(&self, former: &Former) -> Option<Written> {
        let (journal, cluster) = (self.journal.as_ref()?, self.cluster()?);
        let (carried, events) = journal.carry(former, cluster.name(), self.namespace());
        Some(Written { carried, events })
    }

    /// What it has sent, for those who come back; none if nothing is recovered.
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
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
    pub fn catch_up(&self, socket: SocketKey, session: &Arc<Session>, replay: Replay) -> bool {
        let Some(journal) = &self.journal else {
            return false;
        };
        let rooms = || self.rooms(socket);
        // One packet to the outbox: the log bounds how large they are, so their number does not matter.
        let send = |packets: &[Packet]| {
            let frames: Vec<&[u8]> = packets.iter().map(|packet| &packet.frames()[..]).collect();
            let pushed = session.push(&Forms::new(&frames.concat().into()), false);
            matches!(pushed, Pushed::Taken | Pushed::Waiting)
        };
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
        let members = self.members.read();
        members.session(socket).cloned()
    }

    /// Those of the sockets that are connected.
    fn members(&self, sockets: &[SessionKey]) -> Vec<(SessionKey, Arc<Session>)> {
        let members = self.members.read();
        let member = |socket: &SessionKey| Some((*socket, members.session(*socket)?.clone()));
        sockets.iter().filter_map(member).collect()
    }

    /// Writes a packet that was pushed, and counts what became of it.
    fn finish(&self, event: &str, pushed: Pushed, session: &Arc<Session>) -> Delivery {
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
        pushed: impl IntoIterator<Item = (Pushed, &'a Arc<Session>)>,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        for (pushed, session) in pushed {
            match pushed {
                Pushed::Taken | Pushed::Waiting => delivery.delivered += 1,
                Pushed::Full => {
                    delivery.dropped += 1;
                    self.dropped.count(session);
                }
                Pushed::Skipped | Pushed::Closed => {}
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

/// Writes to many clients without keeping the sender, or others on its thread, from their own work for
/// long. What is sent to the last of them meanwhile leaves with what waits for them.
fn write(mut waiting: Vec<Arc<Session>>) {
    if waiting.len() > WRITTEN_AT_ONCE
        && let Ok(runtime) = Handle::try_current()
    {
        let mut others = waiting.split_off(WRITTEN_AT_ONCE);
        let part = others.len().div_ceil(runtime.metrics().num_workers());
        while !others.is_empty() {
            let part = others.split_off(others.len().saturating_sub(part));
            runtime.spawn(write_in_turns(part));
        }
    }
    waiting.iter().for_each(|session| session.flush());
}

async fn write_in_turns(waiting: Vec<Arc<Session>>) {
    for some in waiting.chunks(WRITTEN_AT_ONCE) {
        some.iter().for_each(|session| session.flush());
        yield_now().await;
    }
}
