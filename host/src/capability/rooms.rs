//! `mixlab:plugin/rooms`: rooms of connections.

use std::collections::BTreeSet;

use super::{State, denied, emit::selection_size};
use crate::{
    effect::Effect,
    guest::{Error, rooms, types},
    selected::Selected,
};

/// Longer names of rooms are not joined.
const MAX_ROOM_BYTES: usize = 512;

impl rooms::Host for State {
    fn join(&mut self, room: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(room.len())?;
        Ok(self
            .granted_room(&room)
            .and_then(|()| self.has_place_in(&room))
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
        Ok(check_name(&room).and_then(|()| self.move_sockets(selection, room, join)))
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

    /// Those of a connection's rooms that the plugin may know of.
    pub(super) fn granted_rooms(&self, mut rooms: Vec<String>) -> Vec<String> {
        let grants = self.grants();
        rooms.retain(|room| grants.room(room));
        rooms
    }

    /// The rooms of the call's connection that the plugin may know of. Never a part of them: that would pass
    /// for the whole.
    fn joined_rooms(&mut self) -> Result<Vec<String>, Error> {
        let mut rooms = self.rooms_by_now()?;
        let grants = self.grants();
        rooms.retain(|room| grants.room(room));
        drop(grants);
        let bytes = rooms.iter().map(|room| room.len() + size_of::<String>());
        self.meter.answer(bytes.sum())?;
        Ok(rooms.into_iter().collect())
    }

    /// Whether the call's connection may be in one more room.
    pub(super) fn has_place_in(&self, room: &str) -> Result<(), Error> {
        check_name(room)?;
        let rooms = self.rooms_by_now()?;
        let max_rooms = self.connection()?.adapter().max_rooms();
        max_rooms
            .admit(rooms.iter().map(String::as_str), room)
            .map_err(|too_many| Error::OverBudget(too_many.to_string()))
    }

    /// The rooms of the call's connection. A call sees its own joins and leaves.
    fn rooms_by_now(&self) -> Result<BTreeSet<String>, Error> {
        let mut rooms: BTreeSet<String> = self.connection()?.rooms().into_iter().collect();
        for effect in &self.effects {
            match effect {
                Effect::Join { room } | Effect::Enter { room, .. } => {
                    rooms.insert(room.clone());
                }
                Effect::Leave { room } => {
                    rooms.remove(room);
                }
                _ => {}
            }
        }
        Ok(rooms)
    }
}

fn check_name(room: &str) -> Result<(), Error> {
    check_room_name(room).map_err(Error::Invalid)
}

/// Refuses a room that is not joined. Names are kept with every connection that joins, also while it is away.
pub(crate) fn check_room_name(room: &str) -> Result<(), String> {
    match room.len() > MAX_ROOM_BYTES {
        true => Err(format!("room: a name has at most {MAX_ROOM_BYTES} bytes")),
        false => Ok(()),
    }
}
