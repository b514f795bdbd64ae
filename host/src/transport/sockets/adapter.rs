//! Packets to sockets and rooms: one adapter for each namespace. socketioxide's own adapter knows the rooms.

mod joining;
mod outgoing;
mod returning;
mod selecting;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::Serialize;
use socketioxide_core::adapter::CoreLocalAdapter;

pub use self::outgoing::Delivery;
use super::{
    ask::Asks, emitter::Emitter, members::SharedMembers, namespaces::Dropped, present::Present,
    rooms::MaxRooms,
};
use crate::{
    cluster::Cluster,
    presence::Presence,
    recovery::{Common, Journal},
    transport::{
        engine::{Ended, Session},
        key::SocketKey,
    },
};

/// Sockets in this room get nothing but what they missed.
const CATCHING_UP: &str = "mixlab:catching-up";

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

    /// How many sockets are connected.
    pub(crate) fn size(&self) -> usize {
        self.members.read().len()
    }

    /// The cluster, if this server is in one.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// What it has sent, for those who come back; none if nothing is recovered.
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }
}
