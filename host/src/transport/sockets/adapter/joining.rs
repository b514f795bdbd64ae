//! Into rooms and out of them, noted where a connection can come back.

use std::borrow::Cow;

use super::{
    super::rooms::{MaxRooms, TooManyRooms},
    Adapter, CATCHING_UP,
};
use crate::{
    recovery::Stream,
    transport::key::{SessionKey, SocketKey},
};

impl Adapter {
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
}
