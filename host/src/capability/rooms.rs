//! `mixlab:plugin/rooms`: the rooms of the connection whose event is being handled.

use super::{State, denied};
use crate::{
    effect::Effect,
    guest::{Error, rooms},
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

    /// A call sees its own joins and leaves.
    fn joined_rooms(&self) -> Result<Vec<String>, Error> {
        let connection = self.connection()?;
        let mut rooms = connection.rooms();
        rooms.retain(|room| self.grants().room(room));
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
