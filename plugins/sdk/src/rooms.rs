//! Rooms of connections.
use crate::host::rooms;
use crate::{Context, Emit, Error};

impl Context {
    /// Puts the connection into a room. Grant: `room:ROOM`.
    pub fn join(&self, room: &str) -> Result<(), Error> {
        rooms::join(room)
    }

    /// Takes the connection out of a room. Grant: `room:ROOM`.
    pub fn leave(&self, room: &str) -> Result<(), Error> {
        rooms::leave(room)
    }

    /// The rooms that the connection is in, with the joins and leaves of this call, as far as a
    /// `room:` grant covers them.
    pub fn joined(&self) -> Result<Vec<String>, Error> {
        rooms::joined()
    }
}

impl Emit {
    /// Puts everyone selected into a room: `cx.to("waiting").include_sender().join("table:7")?`.
    /// Grant: `room:ROOM`.
    pub fn join(&self, room: &str) -> Result<(), Error> {
        rooms::join_sockets(self.sockets()?, room)
    }

    /// Takes everyone selected out of a room. Grant: `room:ROOM`.
    pub fn leave(&self, room: &str) -> Result<(), Error> {
        rooms::leave_sockets(self.sockets()?, room)
    }
}
