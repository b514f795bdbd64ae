//! `mixlab:plugin/presence`: who is present in rooms.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{State, denied, taped::Taped};
use crate::{
    connection::Connection,
    effect::Effect,
    guest::{Error, presence},
    message::{AROUND_PRESENT, check_inside},
    namespace::MAIN_NAMESPACE,
    presence::Member,
    units::Size,
};

/// What a member takes as it crosses the boundary beside its texts, in bytes.
const MEMBER_BYTES: usize = 64;

impl presence::Host for State {
    fn enter(&mut self, room: String, data: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(room.len() + data.len())?;
        Ok(self.enter_room(room, &data))
    }

    fn leave(&mut self, room: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(room.len())?;
        Ok(self
            .granted_presence(&room)
            .and_then(|()| self.record(Effect::Leave { room })))
    }

    fn members(&mut self, room: String) -> wasmtime::Result<Result<Vec<presence::Member>, Error>> {
        self.meter.host_call(room.len())?;
        let note = match self.answer("presence.members", || room.as_str().into()) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let members = self.members_of(&room);
        note.keep(&members);
        Ok(members)
    }

    fn count(&mut self, room: String) -> wasmtime::Result<Result<u64, Error>> {
        self.meter.host_call(room.len())?;
        let note = match self.answer("presence.count", || room.as_str().into()) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let counted = self.granted_presence(&room).map(|()| {
            let count = self.broadcast.presence().count(self.namespace(), &room);
            count as u64
        });
        note.keep(&counted);
        Ok(counted)
    }
}

impl State {
    fn granted_presence(&self, room: &str) -> Result<(), Error> {
        if self.grants().presence(room) {
            Ok(())
        } else {
            Err(denied(format_args!("presence:{room}")))
        }
    }

    fn namespace(&self) -> &str {
        let connection = self.connection.as_deref();
        connection.map_or(MAIN_NAMESPACE, Connection::namespace)
    }

    fn enter_room(&mut self, room: String, data: &str) -> Result<(), Error> {
        self.granted_presence(&room)?;
        let presence = self.broadcast.presence();
        let most = presence.max_data();
        if data.len() > most {
            let most = Size::new(most as u64);
            return Err(Error::OverBudget(format!("presence.data = {most}")));
        }
        // Without white space, which nobody needs to get.
        let json: &RawValue = serde_json::from_str(data)
            .map_err(|error| Error::Invalid(format!("data: not a JSON value: {error}")))?;
        check_inside(json.get(), AROUND_PRESENT)
            .map_err(|error| Error::Invalid(format!("data: {error}")))?;
        let connection = self.connection()?;
        let place = (connection.namespace(), &*room);
        presence
            .has_place(place, &connection.who())
            .map_err(|full| Error::OverBudget(full.to_string()))?;
        self.has_place_in(&room)?;
        let data = Arc::from(json.get());
        self.record(Effect::Enter { room, data })
    }

    fn members_of(&mut self, room: &str) -> Result<Vec<presence::Member>, Error> {
        self.granted_presence(room)?;
        let members = self.broadcast.presence().members(self.namespace(), room);
        let mut told = Vec::with_capacity(members.len());
        for Member {
            who,
            connections,
            data,
        } in members
        {
            // A part would pass for the whole.
            self.meter
                .answer(MEMBER_BYTES + who.id().len() + data.len())?;
            told.push(presence::Member {
                id: who.id().to_owned(),
                anonymous: who.is_anonymous(),
                connections,
                data: data.as_ref().to_owned(),
            });
        }
        Ok(told)
    }
}
