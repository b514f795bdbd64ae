//! `mixlab:plugin/sockets`: what a client said when it connected, who is there, what the plugin keeps
//! with a connection, and the end of connections.

use std::{fmt::Display, sync::Arc};

use serde_json::value::RawValue;

use super::{
    State,
    connection::told,
    denied,
    emit::{selection_size, target_size},
};
use crate::{
    connection::Connection,
    effect::Effect,
    guest::{
        Error,
        sockets::{self, Request, Socket},
        types,
    },
    message::check_nesting,
};

/// What a plugin keeps that has kept nothing yet, as JSON.
const NOTHING: &str = "null";

impl sockets::Host for State {
    fn handshake(&mut self) -> wasmtime::Result<Result<Request, Error>> {
        self.meter.host_call(0)?;
        Ok(self.granted_handshake())
    }

    fn find(
        &mut self,
        selection: types::Selection,
    ) -> wasmtime::Result<Result<Vec<Socket>, Error>> {
        self.meter.host_call(selection_size(&selection))?;
        Ok(self.found(selection))
    }

    fn count(&mut self, selection: types::Selection) -> wasmtime::Result<Result<u64, Error>> {
        self.meter.host_call(selection_size(&selection))?;
        Ok(self.counted(selection))
    }

    fn data(&mut self) -> wasmtime::Result<Result<String, Error>> {
        self.meter.host_call(0)?;
        Ok(self.kept())
    }

    fn set_data(&mut self, data: String) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(data.len())?;
        Ok(self.keep(data))
    }

    fn disconnect(
        &mut self,
        target: types::Target,
        close: bool,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(target_size(&target))?;
        Ok(self.end_connections(target, close))
    }
}

impl State {
    fn granted_handshake(&self) -> Result<Request, Error> {
        let grants = self.grants();
        if !grants.handshake() {
            return Err(denied("handshake"));
        }
        let Some(said) = self.connection()?.handshake() else {
            return Ok(Request {
                query: Vec::new(),
                headers: Vec::new(),
            });
        };
        let headers = said.headers.iter();
        Ok(Request {
            query: said.query.to_vec(),
            headers: headers
                .filter(|(name, _)| grants.header(name))
                .cloned()
                .collect(),
        })
    }

    fn found(&mut self, selection: types::Selection) -> Result<Vec<Socket>, Error> {
        if !self.grants().find() {
            return Err(denied("find"));
        }
        let selected = self.granted_selection(selection, None)?;
        let found = selected.connections(self.connection.as_deref(), &self.broadcast);
        let mut sockets = Vec::with_capacity(found.len());
        for connection in found {
            let socket = Socket {
                connection: told(&connection),
                rooms: self.granted_rooms(&connection),
                data: self.kept_with(&connection),
            };
            // A part would pass for the whole.
            self.meter.answer(size(&socket))?;
            sockets.push(socket);
        }
        Ok(sockets)
    }

    fn counted(&self, selection: types::Selection) -> Result<u64, Error> {
        if !self.grants().find() {
            return Err(denied("find"));
        }
        let selected = self.granted_selection(selection, None)?;
        let count = selected.count(self.connection.as_deref(), &self.broadcast);
        Ok(count as u64)
    }

    fn kept_with(&self, connection: &Connection) -> String {
        let kept = connection.data.get(&self.plugin);
        kept.as_deref().unwrap_or(NOTHING).to_owned()
    }

    /// A call sees its own writes.
    fn kept(&mut self) -> Result<String, Error> {
        let connection = self.connection()?;
        let written = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::SetData { json, .. } => Some(json.to_string()),
            _ => None,
        });
        let data = written.unwrap_or_else(|| self.kept_with(connection));
        self.meter.answer(data.len())?;
        Ok(data)
    }

    fn keep(&mut self, data: String) -> Result<(), Error> {
        self.meter.data(data.len())?;
        let invalid = |error: &dyn Display| Error::Invalid(format!("data: {error}"));
        let json = RawValue::from_string(data).map_err(|error| invalid(&error))?;
        check_nesting(json.get()).map_err(|error| invalid(&error))?;
        self.record(Effect::SetData {
            plugin: self.plugin.clone(),
            json: Arc::from(json.get()),
        })
    }

    fn end_connections(&mut self, target: types::Target, close: bool) -> Result<(), Error> {
        if !self.grants().disconnect() {
            return Err(denied("disconnect"));
        }
        let sockets = match target {
            types::Target::Sender => None,
            types::Target::Sockets(selection) => Some(self.granted_selection(selection, None)?),
        };
        self.record(Effect::Disconnect { sockets, close })
    }
}

/// What a socket takes as it crosses the boundary, in bytes: its texts, and some for each of them.
fn size(socket: &Socket) -> usize {
    const TEXT: usize = size_of::<String>();
    let types::Connection {
        id,
        namespace,
        address,
        user,
        recovered: _,
    } = &socket.connection;
    let of_user = user.iter().flat_map(|user| {
        let texts = user.roles.iter().chain(&user.username);
        texts.chain([&user.id])
    });
    let texts = [id, namespace, address, &socket.data].into_iter();
    let texts = texts.chain(of_user).chain(&socket.rooms);
    texts.map(|text| text.len() + TEXT).sum()
}
