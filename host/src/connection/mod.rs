//! One client's connection to one namespace.

pub(crate) mod data;
mod described;
pub(crate) mod lane;
mod table;

pub(crate) use table::Connections;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::{ArcSwap, ArcSwapOption};

use self::{data::Data, lane::Lane};
use crate::{
    address::ClientAddress,
    admission::OwnBuckets,
    cluster::Written,
    deadlines::{Expiring, TokenDeadline},
    error::{ERROR_EVENT, WireError},
    id,
    message::Message,
    ordered_lock::{OrderedMutex, rank},
    presence::{Full, Who},
    recovery::{Former, Lost, Replay, Stream, Visit},
    revocation::Revocations,
    telemetry::SpanContext,
    transport::{
        Adapter, Delivery, EndReason, Handshake, Receiver, Session, SocketKey, TooManyRooms,
    },
    user::{User, UserId},
};

/// A live connection.
pub struct Connection {
    /// The public id: the client's `socket.id`, and what plugins and logs know the connection by.
    pub id: String,
    pid: String,
    /// Finds the socket; a secret.
    pub key: SocketKey,
    /// The client's side of it.
    session: Arc<Session>,
    /// The client's address.
    pub address: ClientAddress,
    /// How often it may send.
    pub buckets: OwnBuckets,
    /// What arrived from it and waits for its turn.
    pub lane: Lane,
    adapter: Arc<Adapter>,
    /// What it alone is sent; none if it cannot come back.
    stream: Option<Arc<Stream>>,
    identity: ArcSwap<Identity>,
    /// Whether its client lost it and has it back.
    pub recovered: bool,
    /// When the token of its user expires.
    deadline: ArcSwapOption<TokenDeadline>,
    /// What plugins keep with it.
    pub data: Arc<Data>,
    /// Which one this is of the times that its client had it.
    visit: Visit,
    /// Whether it is, or was, present in a room: nobody else is looked for among those who are.
    is_present: AtomicBool,
    phase: OrderedMutex<{ rank::PHASE }, Phase>,
}

/// How far a connection has come.
///
/// ```text
/// Joining => Open (the client is told that it is connected) | Ended
/// Open    => Ended
/// ```
enum Phase {
    /// It is being decided whether the client is let in.
    Joining,
    /// It gets what is for it.
    Open,
    /// It is over, for whatever reason.
    Ended {
        /// The rooms that it was in.
        rooms: Vec<String>,
    },
}

/// Why a connection is not present in a room.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPresent {
    /// It is not in the room either.
    #[error(transparent)]
    Rooms(#[from] TooManyRooms),
    /// It is in the room all the same.
    #[error(transparent)]
    Full(#[from] Full),
}

/// Who a connection belongs to right now. Replaced as a whole when it authenticates.
pub struct Identity {
    /// None: anonymous.
    pub user: Option<User>,
}

impl Connection {
    /// The span that its client was in when it came, if that is known.
    pub(crate) fn handshake_span(&self) -> Option<SpanContext> {
        self.session.handshake.as_ref()?.span
    }

    /// A connection of `key` in the namespace of `adapter`.
    pub fn new(
        key: SocketKey,
        session: Arc<Session>,
        address: ClientAddress,
        adapter: Arc<Adapter>,
    ) -> Self {
        let stream = adapter.begin(key);
        let ids = (id::random(), id::random());
        Self::with_ids(ids, key, session, stream, address, adapter, None)
    }

    /// `former`, which has come back with `key`.
    pub fn back(
        former: &Former,
        key: SocketKey,
        session: Arc<Session>,
        address: ClientAddress,
        adapter: Arc<Adapter>,
    ) -> Self {
        let ids = (former.id.clone(), former.pid.clone());
        let stream = Some(former.stream.clone());
        let data = Some(former.data.clone());
        Self::with_ids(ids, key, session, stream, address, adapter, data)
    }

    /// One that was on a server which is gone: it has ended, and so has this `session` for it.
    pub(crate) fn lost(lost: Lost, session: Arc<Session>, adapter: Arc<Adapter>) -> Self {
        let Lost {
            id,
            rooms,
            data,
            user,
            address,
            ..
        } = lost;
        let key = SocketKey::new(session.id);
        // It is known by no private id here: whoever has the connection next has it from Redis.
        let ids = (id, String::new());
        let data = Some(Arc::new(data));
        let mut lost = Self::with_ids(ids, key, session, None, address, adapter, data);
        lost.identity = ArcSwap::from_pointee(Identity { user });
        lost.phase = OrderedMutex::new(Phase::Ended { rooms });
        lost.recovered = false;
        lost
    }

    fn with_ids(
        (id, pid): (String, String),
        key: SocketKey,
        session: Arc<Session>,
        stream: Option<Arc<Stream>>,
        address: ClientAddress,
        adapter: Arc<Adapter>,
        recovered: Option<Arc<Data>>,
    ) -> Self {
        adapter.hold();
        let identity = ArcSwap::from_pointee(Identity { user: None });
        Self {
            id,
            pid,
            key,
            session,
            address,
            buckets: OwnBuckets::default(),
            lane: Lane::closed(),
            adapter,
            stream,
            identity,
            recovered: recovered.is_some(),
            deadline: ArcSwapOption::empty(),
            data: recovered.unwrap_or_default(),
            visit: Visit::new(),
            is_present: AtomicBool::new(false),
            phase: OrderedMutex::new(Phase::Joining),
        }
    }

    /// The namespace's path.
    pub fn namespace(&self) -> &str {
        self.adapter.namespace()
    }

    /// The namespace's door to its sockets.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Who it belongs to right now.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Whether it belongs to one who comes as `user`. Who shows no token is nobody.
    pub fn is_of(&self, user: Option<&UserId>) -> bool {
        let identity = self.identity.load();
        identity.user.as_ref().map(|own| &own.id) == user
    }

    /// Makes it `user`'s: the rooms of the former identity are left, those of the new one joined.
    pub fn authenticate(&self, user: User) {
        let rooms = user.rooms();
        let former_who = self.who();
        let former = self.identity.load();
        let mut left = former.user.as_ref().map(User::rooms).unwrap_or_default();
        left.retain(|room| !rooms.contains(room));
        self.identity.store(Arc::new(Identity { user: Some(user) }));
        self.leave(left);
        self.join(rooms);
        self.has_changed();
        let who = self.who();
        if self.is_present() && who != former_who {
            let presence = self.adapter.presence();
            presence.identify(self.namespace(), &self.rooms(), &self.id, &who);
        }
    }

    /// Joins a room of plugins, unless it is in as many as it may be, and is present in it with this data of
    /// its user.
    pub(crate) fn enter_room(&self, room: &str, data: Arc<str>) -> Result<(), NotPresent> {
        // Under the lock: whoever ends the connection, or takes it out of the room, sees both.
        let phase = self.phase.lock();
        if let Phase::Ended { .. } = *phase {
            return Ok(());
        }
        let stream = self.stream.as_deref();
        self.adapter
            .join_one_more(self.key, stream, room.to_owned())?;
        self.is_present.store(true, Ordering::Relaxed);
        let presence = self.adapter.presence();
        presence.enter((self.namespace(), room), &self.id, self.who(), data)?;
        drop(phase);
        self.has_changed();
        Ok(())
    }

    /// Who is present by it.
    pub(crate) fn who(&self) -> Who {
        match &self.identity.load().user {
            Some(user) => Who::User(user.id.as_str().into()),
            None => Who::Anonymous(self.id.as_str().into()),
        }
    }

    /// Whether it has entered rooms.
    pub(crate) fn is_present(&self) -> bool {
        self.is_present.load(Ordering::Relaxed)
    }

    /// It is to end then, or never; whatever was said before does not hold any more.
    pub(crate) fn set_deadline(&self, deadline: Option<TokenDeadline>) {
        self.deadline.store(deadline.map(Arc::new));
    }

    /// Joins rooms of the host.
    pub fn join(&self, rooms: Vec<String>) {
        self.adapter.join(self.key, self.stream.as_deref(), rooms);
        self.leave_if_ended();
        self.has_changed();
    }

    /// Joins a room of plugins, unless it is in as many as it may be.
    pub(crate) fn join_one_more(&self, room: String) -> Result<(), TooManyRooms> {
        let joined = {
            // One at a time, so that they can be counted.
            let _phase = self.phase.lock();
            let stream = self.stream.as_deref();
            self.adapter.join_one_more(self.key, stream, room)
        };
        self.leave_if_ended();
        self.has_changed();
        joined
    }

    fn leave_if_ended(&self) {
        if self.has_ended() {
            // Nobody else would take the socket out of its rooms.
            self.adapter.leave_all(self.key);
        }
    }

    /// Leaves rooms.
    pub fn leave(&self, rooms: Vec<String>) {
        // Nobody may enter one in between, and be present where it is not.
        let phase = self.phase.lock();
        if self.is_present() {
            // Of those that it is not in there is nothing to say.
            let its = self.adapter.rooms(self.key);
            let left: Vec<_> = rooms
                .iter()
                .filter(|room| its.contains(room))
                .cloned()
                .collect();
            let presence = self.adapter.presence();
            presence.leave(self.namespace(), &left, &self.id);
        }
        self.adapter.leave(self.key, self.stream.as_deref(), rooms);
        drop(phase);
        self.has_changed();
    }

    /// Keeps what a plugin wants to be kept with it.
    pub(crate) fn keep(&self, plugin: &Arc<str>, json: Arc<str>) {
        self.data.set(plugin, json);
        self.has_changed();
    }

    /// Other servers are to know what it is by now.
    pub(crate) fn has_changed(&self) {
        self.tell_cluster(true);
    }

    /// Tells other servers what it is by now, or of its new events only.
    fn tell_cluster(&self, more: bool) {
        let Some(cluster) = self.adapter.cluster() else {
            return;
        };
        if let (Some(stream), Phase::Ended { rooms }) = (&self.stream, &*self.phase.lock()) {
            let former = self.former(stream, rooms.clone());
            if let Some(last) = self.adapter.carry(&former) {
                cluster.sessions.has_ended(last);
            }
            return;
        }
        let client = self.key.session;
        cluster.sessions.has_changed(client, self.namespace(), more);
    }

    /// What other servers are to know of it.
    pub(crate) fn carry(&self) -> Option<Written> {
        let former = self.former(self.stream.as_ref()?, self.rooms());
        self.adapter.carry(&former)
    }

    /// Whether it is for this server to tell plugins of its end, which was held up if it is not.
    pub(crate) async fn may_tell_end(&self) -> bool {
        match (self.adapter.cluster(), self.pid()) {
            (Some(cluster), Some(pid)) => cluster.may_tell_end(pid, self.visit).await,
            _ => true,
        }
    }

    /// Plugins have been told of its end.
    pub(crate) fn end_is_told(&self) {
        if let (Some(cluster), Some(pid)) = (self.adapter.cluster(), self.pid()) {
            cluster.sessions.end_is_told(pid, self.visit);
        }
    }

    /// What its client shows when it comes back; a secret. None if it need not try.
    pub fn pid(&self) -> Option<&str> {
        self.stream.as_ref().map(|_| self.pid.as_str())
    }

    /// The client is told that it is connected; `receiver` takes what it sends. False if the connection
    /// has ended.
    pub fn enter(&self, receiver: &Arc<dyn Receiver>) -> bool {
        if !self.session.let_in(self.namespace(), receiver) {
            return false;
        }
        {
            let mut phase = self.phase.lock();
            if let Phase::Ended { .. } = *phase {
                return false;
            }
            *phase = Phase::Open;
            if self.recovered {
                let rooms = self.adapter.rooms(self.key);
                let presence = self.adapter.presence();
                let is_present = presence.come_back(self.namespace(), &rooms, &self.id);
                self.is_present.store(is_present, Ordering::Relaxed);
            }
            self.adapter
                .enter(self.key, &self.id, self.pid(), &self.session);
        }
        self.session.show_introduction();
        self.has_changed();
        true
    }

    /// The rooms that it is in, or was in when it ended.
    pub fn rooms(&self) -> Vec<String> {
        match &*self.phase.lock() {
            Phase::Ended { rooms } => rooms.clone(),
            Phase::Joining | Phase::Open => self.adapter.rooms(self.key),
        }
    }

    /// It is over. Keeps what is needed if its client `may_come_back`. False if it was over before.
    pub fn end(&self, may_come_back: bool) -> bool {
        let rooms = {
            let mut phase = self.phase.lock();
            if let Phase::Ended { .. } = *phase {
                return false;
            }
            let rooms = self.adapter.rooms(self.key);
            *phase = Phase::Ended {
                rooms: rooms.clone(),
            };
            rooms
        };
        if self.is_present() {
            let presence = self.adapter.presence();
            match may_come_back {
                true => presence.drop_out(self.namespace(), &rooms, &self.id),
                false => presence.leave(self.namespace(), &rooms, &self.id),
            }
        }
        if let Some(stream) = &self.stream {
            let former = || may_come_back.then(|| self.former(stream, rooms));
            self.adapter.end(self.key, stream, former);
        }
        self.adapter.remove(self.key, &self.id, self.pid());
        match (self.adapter.cluster(), self.pid()) {
            (Some(cluster), Some(pid)) if !may_come_back => cluster.sessions.forget(pid),
            _ => self.has_changed(),
        }
        true
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Ended { .. })
    }

    fn former(&self, stream: &Arc<Stream>, rooms: Vec<String>) -> Former {
        let identity = self.identity.load();
        Former {
            pid: self.pid.clone(),
            id: self.id.clone(),
            key: self.key,
            address: self.address,
            stream: stream.clone(),
            rooms,
            data: self.data.clone(),
            user: identity.user.clone(),
            visit: self.visit,
        }
    }

    /// Sends what it missed while it was away; false if that is not all there any more.
    pub fn catch_up(&self, missed: Replay) -> bool {
        self.adapter.catch_up(self.key, &self.session, missed)
    }

    /// Ends the client's transport; it may come back.
    pub fn end_transport(&self) {
        self.session.end(EndReason::TransportClose);
    }

    /// Has the server end it: the client is told so, and what waits of it is not handled.
    pub fn disconnect(&self) {
        self.lane.end_events();
        self.session.end_connection(self.namespace(), &self.id);
    }

    /// Ends the client's transport when the client has got what is on its way.
    fn close_transport(&self) {
        self.session.close();
    }

    /// What its client said when it connected, as far as it was kept.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.session.handshake.as_deref()
    }

    /// What its packets travel over, in Socket.IO's words.
    pub(crate) fn transport(&self) -> &'static str {
        match self.session.is_over_websocket() {
            true => "websocket",
            false => "polling",
        }
    }

    /// When its client's session began.
    pub(crate) fn began(&self) -> SystemTime {
        self.session.began
    }

    /// Emits an event to this connection.
    pub fn emit(&self, event: &str, message: Message, volatile: bool) -> Delivery {
        let stream = self.stream.as_deref();
        let delivery = self
            .adapter
            .emit(self.key, &self.session, stream, event, message, volatile);
        if !volatile {
            self.tell_cluster(false);
        }
        delivery
    }

    /// Tells the client of an error that answers none of its events, or one that asked for no ack.
    pub fn tell_error(&self, error: &WireError) {
        self.emit(ERROR_EVENT, error.to_message(), false);
    }

    /// Answers an event of this connection that asked for an ack.
    pub fn ack(&self, id: i64, message: Message) {
        self.adapter.ack(&self.session, id, message);
    }
}

impl Expiring for Connection {
    fn expires_at(&self, at: u64) -> bool {
        let user = &self.identity.load().user;
        let is_due = user
            .as_ref()
            .is_some_and(|user| user.token.expires == Some(at));
        is_due && !self.has_ended()
    }

    fn warn(&self, error: &WireError) {
        self.tell_error(error);
    }

    fn expire(&self) {
        tracing::debug!(socket = self.id, "the connection ends with its token");
        // Not by a DISCONNECT packet, after which clients stay away: this one may come back with a
        // fresh token, and hears of the expiry if it has none.
        self.end_transport();
    }

    fn is_revoked(&self, revocations: &Revocations, now: u64) -> bool {
        let user = &self.identity.load().user;
        let is_revoked = user
            .as_ref()
            .is_some_and(|user| revocations.have(user, now));
        is_revoked && !self.has_ended()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.adapter.release();
    }
}
