//! Who is in a namespace, by the ids that the host and that others know them by.

use std::{collections::HashMap, sync::Arc};

use super::{adapter::SessionKey, adapter::SocketKey, session::Session};

/// Which sockets of a namespace something is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Sockets in at least one of these rooms; every socket if there are no `sockets`, too.
    pub rooms: Vec<String>,
    /// And those with one of these public ids.
    pub sockets: Vec<String>,
    /// But not those in one of these rooms, or with one of these public ids.
    pub except: Vec<String>,
    /// Nor this one.
    pub except_socket: Option<SocketKey>,
}

impl Selection {
    /// The sockets in one room.
    pub fn room(room: impl Into<String>) -> Self {
        Self {
            rooms: vec![room.into()],
            ..Self::default()
        }
    }

    /// What its names take, in bytes.
    pub fn size(&self) -> usize {
        let names = self.rooms.iter().chain(&self.sockets).chain(&self.except);
        names.map(|name| name.len() + size_of::<String>()).sum()
    }

    /// Whether it is every socket, but for some.
    pub fn is_everyone(&self) -> bool {
        self.rooms.is_empty() && self.sockets.is_empty()
    }
}

/// The sockets that have been told that they are connected. Others get nothing.
#[derive(Default)]
pub struct Members {
    sessions: HashMap<SessionKey, Arc<Session>>,
    /// By public id. A socket has no room of its own in socketioxide: that would take four times
    /// as much memory.
    ids: HashMap<Box<str>, SessionKey>,
}

impl Members {
    /// The client with this public id is told that it is connected.
    pub fn insert(&mut self, socket: SessionKey, id: &str, session: Arc<Session>) {
        self.sessions.insert(socket, session);
        self.ids.insert(id.into(), socket);
    }

    /// It is gone, from this socket at least.
    pub fn remove(&mut self, socket: SessionKey, id: &str) {
        self.sessions.remove(&socket);
        // Who came back has the same id with another socket.
        if self.ids.get(id) == Some(&socket) {
            self.ids.remove(id);
        }
    }

    /// The client's side of a socket.
    pub fn session(&self, socket: SessionKey) -> Option<&Arc<Session>> {
        self.sessions.get(&socket)
    }

    /// The socket with this public id.
    pub fn socket(&self, id: &str) -> Option<SessionKey> {
        self.ids.get(id).copied()
    }
}
