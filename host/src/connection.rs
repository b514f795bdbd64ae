//! One client's connection to one namespace, and the table of all that are live.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;

use crate::{
    address::ClientAddress,
    admission::OwnBuckets,
    data::Data,
    deadlines::Deadline,
    id,
    lane::Lane,
    message::Message,
    recovery::{Former, Replay, Stream},
    transport::{Adapter, Delivery, Handshake, Receiver, Removal, Session, SessionKey, SocketKey},
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
    deadline: ArcSwapOption<Deadline<Weak<Connection>>>,
    /// What plugins keep with it.
    pub data: Arc<Data>,
    /// The rooms that it was in when it ended.
    last_rooms: OnceLock<Vec<String>>,
}

/// Who a connection belongs to right now. Replaced as a whole when it authenticates.
pub struct Identity {
    /// None: anonymous.
    pub user: Option<User>,
}

impl Connection {
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
            last_rooms: OnceLock::new(),
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
        let former = self.identity.load();
        let mut left = former.user.as_ref().map(User::rooms).unwrap_or_default();
        left.retain(|room| !rooms.contains(room));
        self.identity.store(Arc::new(Identity { user: Some(user) }));
        self.leave(left);
        self.join(rooms);
    }

    /// It is to end then, or never; whatever was said before does not hold any more.
    pub(crate) fn set_deadline(&self, deadline: Option<Deadline<Weak<Self>>>) {
        self.deadline.store(deadline.map(Arc::new));
    }

    /// Joins rooms.
    pub fn join(&self, rooms: Vec<String>) {
        self.adapter.join(self.key, self.stream.as_deref(), rooms);
        if self.has_ended() {
            // Nobody else would take the socket out of them.
            self.adapter.leave_all(self.key);
        }
    }

    /// Leaves rooms.
    pub fn leave(&self, rooms: Vec<String>) {
        self.adapter.leave(self.key, self.stream.as_deref(), rooms);
    }

    /// What its client shows when it comes back; a secret. None if it need not try.
    pub fn pid(&self) -> Option<&str> {
        self.stream.as_ref().map(|_| self.pid.as_str())
    }

    /// The client is told that it is connected; `receiver` takes its events.
    pub fn enter(&self, receiver: Arc<dyn Receiver>) {
        self.session.receivers.add(self.namespace(), receiver);
        self.adapter
            .enter(self.key, &self.id, self.pid(), &self.session);
    }

    /// The rooms that it is in, or was in when it ended.
    pub fn rooms(&self) -> Vec<String> {
        match self.last_rooms.get() {
            Some(rooms) => rooms.clone(),
            None => self.adapter.rooms(self.key),
        }
    }

    /// The socket has ended. Keeps what is needed if its client `may_come_back`. Called before it
    /// leaves its rooms.
    pub fn end(&self, may_come_back: bool) {
        if let Some(stream) = &self.stream {
            let former = || may_come_back.then(|| self.former(stream));
            self.adapter.end(self.key, stream, former);
        }
        self.exit();
    }

    /// Takes no more events of the client, and sends it none.
    pub fn exit(&self) {
        // First, so that who enters meanwhile finds it or is found by what follows.
        self.last_rooms.get_or_init(|| self.adapter.rooms(self.key));
        self.session.receivers.leave(self.namespace());
        self.adapter.remove(self.key, &self.id, self.pid());
    }

    /// Whether its socket has ended.
    pub fn has_ended(&self) -> bool {
        self.last_rooms.get().is_some()
    }

    fn former(&self, stream: &Arc<Stream>) -> Former {
        let identity = self.identity.load();
        Former {
            pid: self.pid.clone(),
            id: self.id.clone(),
            key: self.key,
            address: self.address,
            stream: stream.clone(),
            rooms: self.adapter.rooms(self.key),
            data: self.data.clone(),
            user: identity.user.as_ref().map(|user| user.id.clone()),
        }
    }

    /// Tells the client that the server has ended it.
    pub fn tell_end(&self) {
        self.session.tell_end(self.namespace());
    }

    /// Has `remove` take the socket out of socketioxide, once that finds no packet for it any more.
    pub fn remove_socket(&self, remove: Removal) {
        self.session.reading.when_read(remove);
    }

    /// Sends what it missed while it was away; false if that is not all there any more.
    pub fn catch_up(&self, missed: Replay) -> bool {
        self.adapter.catch_up(self.key, &self.session, missed)
    }

    /// Ends the client's transport; it may come back.
    pub fn end_transport(&self) {
        self.session.end();
    }

    /// Has the server end it: the client is told so, and what waits of it is not handled.
    fn disconnect(&self) {
        self.lane.end_events();
        if !self.adapter.disconnect(self.key) {
            // Its client does not even fetch that, so it sees the transport end. It recovers
            // nothing all the same.
            self.end(false);
            self.end_transport();
        }
    }

    /// What its client said when it connected, as far as it was kept.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.session.handshake.as_deref()
    }

    /// Emits an event to this connection.
    pub fn emit(&self, event: &str, message: Message, volatile: bool) -> Delivery {
        let stream = self.stream.as_deref();
        self.adapter
            .emit(self.key, &self.session, stream, event, message, volatile)
    }

    /// Answers an event of this connection that asked for an ack.
    pub fn ack(&self, id: i64, message: Message) {
        self.adapter.ack(self.key, &self.session, id, message);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.adapter.release();
    }
}

/// All live connections, and how many clients they belong to.
#[derive(Default)]
pub struct Connections {
    by_client: Mutex<HashMap<SessionKey, Vec<Arc<Connection>>>>,
    /// Counted beside the table, so that reading it costs nothing.
    clients: AtomicUsize,
}

impl Connections {
    /// How many clients are connected; one with several namespaces counts once.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Adds a connection.
    pub fn insert(&self, connection: Arc<Connection>) {
        let mut by_client = self.by_client.lock();
        by_client
            .entry(connection.key.session)
            .or_default()
            .push(connection);
        self.clients.store(by_client.len(), Ordering::Relaxed);
    }

    /// Removes a connection; false if it was not there.
    pub fn remove(&self, connection: &Arc<Connection>) -> bool {
        let mut by_client = self.by_client.lock();
        let Some(connections) = by_client.get_mut(&connection.key.session) else {
            return false;
        };
        let before = connections.len();
        connections.retain(|other| !Arc::ptr_eq(other, connection));
        let removed = connections.len() < before;
        if connections.is_empty() {
            by_client.remove(&connection.key.session);
        }
        self.clients.store(by_client.len(), Ordering::Relaxed);
        removed
    }

    /// A client's connection to a namespace.
    pub fn get(&self, client: SessionKey, namespace: &str) -> Option<Arc<Connection>> {
        let by_client = self.by_client.lock();
        let mut connections = by_client.get(&client)?.iter();
        connections.find(|c| c.namespace() == namespace).cloned()
    }

    /// Has the server end a connection, or all of its client's and then the transport. Nothing
    /// happens if it has ended already.
    pub fn disconnect(&self, connection: &Connection, close: bool) {
        let is_it = |other: &Arc<Connection>| std::ptr::eq(&**other, connection);
        let mut ended = {
            let by_client = self.by_client.lock();
            let its = by_client.get(&connection.key.session);
            let Some(its) = its.filter(|its| its.iter().any(is_it)) else {
                return;
            };
            its.clone()
        };
        if !close {
            ended.retain(is_it);
        }
        ended.iter().for_each(|connection| connection.disconnect());
        if close {
            connection.session.close();
        }
    }

    /// The connections of `clients` to a namespace.
    pub fn of(&self, clients: &[SessionKey], namespace: &str) -> Vec<Arc<Connection>> {
        let by_client = self.by_client.lock();
        let its = |client: &SessionKey| {
            let mut connections = by_client.get(client)?.iter();
            connections.find(|c| c.namespace() == namespace).cloned()
        };
        clients.iter().filter_map(its).collect()
    }

    /// All of them, as they are now.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        let by_client = self.by_client.lock();
        by_client.values().flatten().cloned().collect()
    }
}
