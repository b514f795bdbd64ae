//! Who is in a namespace, by the ids that the host and that others know them by.

use std::sync::Arc;

use ahash::HashMap;
use parking_lot::RwLock;

use crate::{
    memory,
    ordered_lock::{Ordered, rank},
    transport::{engine::Session, key::SessionKey},
};

/// The members of a namespace, as threads share them.
pub(crate) type SharedMembers = Ordered<{ rank::MEMBERS }, RwLock<Members>>;

/// The sockets that have been told that they are connected. Others get nothing.
#[derive(Default)]
pub(super) struct Members {
    sessions: HashMap<SessionKey, Arc<Session>>,
    /// By public id. A socket has no room of its own in socketioxide: that would take four times
    /// as much memory.
    ids: HashMap<Box<str>, SessionKey>,
}

impl Members {
    /// The client with this public id is told that it is connected.
    pub(super) fn insert(&mut self, socket: SessionKey, id: &str, session: Arc<Session>) {
        self.sessions.insert(socket, session);
        self.ids.insert(id.into(), socket);
    }

    /// It is gone, from this socket at least.
    pub(super) fn remove(&mut self, socket: SessionKey, id: &str) {
        self.sessions.remove(&socket);
        // Who came back has the same id with another socket.
        if self.ids.get(id) == Some(&socket) {
            self.ids.remove(id);
        }
        memory::shrink(&mut self.sessions);
        memory::shrink(&mut self.ids);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// All sockets.
    pub(super) fn all(&self) -> impl Iterator<Item = (&SessionKey, &Arc<Session>)> {
        self.sessions.iter()
    }

    /// All public ids, with the clients' sides of their sockets.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &Arc<Session>)> {
        let ids = self.ids.iter();
        ids.filter_map(|(id, socket)| Some((&**id, self.sessions.get(socket)?)))
    }

    /// The client's side of a socket.
    pub(super) fn session(&self, socket: SessionKey) -> Option<&Arc<Session>> {
        self.sessions.get(&socket)
    }

    /// The socket with this public id.
    pub(super) fn socket(&self, id: &str) -> Option<SessionKey> {
        self.ids.get(id).copied()
    }
}
