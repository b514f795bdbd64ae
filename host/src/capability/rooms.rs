//! `mixlab:plugin/rooms`: rooms of connections.

use super::{State, denied, emit::selection_size};
use crate::{
    connection::Connection,
    effect::Effect,
    guest::{Error, rooms, types},
    selected::Selected,
};

impl rooms::Host for State {
    fn join(&mut self, room: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(room.len())?;
        Ok(self
            .granted_room(&room)
            .and_then(|()| self.record(Effect::Join { room })))
    }

    fn leave(&mut self, room: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(room.len())?;
        Ok(self
            .granted_room(&room)
            .and_then(|()| self.record(Effect::Leave { room })))
    }

    fn join_sockets(
        &mut self,
        selection: types::Selection,
        room: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bytes = room.len() + selection_size(&selection);
        self.meter.host_call(bytes)?;
        let join = |sockets, room| Effect::JoinSockets { sockets, room };
        Ok(self.move_sockets(selection, room, join))
    }

    fn leave_sockets(
        &mut self,
        selection: types::Selection,
        room: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bytes = room.len() + selection_size(&selection);
        self.meter.host_call(bytes)?;
        let leave = |sockets, room| Effect::LeaveSockets { sockets, room };
        Ok(self.move_sockets(selection, room, leave))
    }

    fn joined(&mut self) -> wasmtime::Result<Result<Vec<String>, Error>> {
        self.meter.host_call(0)?;
        Ok(self.joined_rooms())
    }
}

impl State {
    fn granted_room(&self, room: &str) -> Result<(), Error> {
        if self.grants().room(room) {
            Ok(())
        } else {
            Err(denied(format_args!("room:{room}")))
        }
    }

    fn move_sockets(
        &mut self,
        selection: types::Selection,
        room: String,
        effect: fn(Selected, String) -> Effect,
    ) -> Result<(), Error> {
        self.granted_room(&room)?;
        let sockets = self.granted_selection(selection, None)?;
        self.record(effect(sockets, room))
    }

    /// The rooms of a connection that the plugin may know of.
    pub(super) fn granted_rooms(&self, connection: &Connection) -> Vec<String> {
        let grants = self.grants();
        let mut rooms = connection.rooms();
        rooms.retain(|room| grants.room(room));
        rooms
    }

    /// A call sees its own joins and leaves.
    fn joined_rooms(&self) -> Result<Vec<String>, Error> {
        let connection = self.connection()?;
        let mut rooms = self.granted_rooms(connection);
        for effect in &self.effects {
            match effect {
                Effect::Join { room } if !rooms.contains(room) => rooms.push(room.clone()),
                Effect::Leave { room } => rooms.retain(|other| other != room),
                _ => {}
            }
        }
        rooms.sort_unstable();
        Ok(rooms)
    }
}
