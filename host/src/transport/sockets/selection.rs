//! Whom something is for.

use std::collections::HashSet;

use crate::transport::key::SocketKey;

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

    /// How many sockets it is at most, if it names each of them.
    pub(crate) fn most(&self) -> Option<usize> {
        let sockets: HashSet<_> = self.sockets.iter().collect();
        (self.rooms.is_empty() && !sockets.is_empty()).then_some(sockets.len())
    }

    /// Whether it is every socket, but for some.
    pub fn is_everyone(&self) -> bool {
        self.rooms.is_empty() && self.sockets.is_empty()
    }
}
