//! `mixlab:plugin/sockets`: what a client said when it connected, who is there, what the plugin keeps
//! with a connection, and the end of connections.

use std::{collections::HashSet, fmt::Display, sync::Arc};

use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use super::{
    RESERVE, State,
    connection::{told, told_user},
    denied,
    emit::{selection_size, target_size},
    taped::Taped,
};
use crate::{
    cluster::{Described, Elsewhere, Unheard, Want},
    connection::Connection,
    effect::Effect,
    guest::{
        Error,
        sockets::{self, Request, Socket},
        types,
    },
    message::check_readable,
    selected::Selected,
};

/// What a plugin keeps that has kept nothing yet, as JSON.
const NOTHING: &str = "null";

impl sockets::Host for State {
    fn handshake(&mut self) -> wasmtime::Result<Result<Request, Error>> {
        self.meter.host_call(0)?;
        let note = match self.answer("sockets.handshake", || Value::Null) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let handshake = self.granted_handshake();
        note.keep(&handshake);
        Ok(handshake)
    }

    async fn find(
        &mut self,
        selection: types::Selection,
    ) -> wasmtime::Result<Result<Vec<Socket>, Error>> {
        self.meter.host_call(selection_size(&selection))?;
        let note = match self.answer("sockets.find", || json!(selection)) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let found = self.found(selection).await;
        note.keep(&found);
        Ok(found)
    }

    async fn count(&mut self, selection: types::Selection) -> wasmtime::Result<Result<u64, Error>> {
        self.meter.host_call(selection_size(&selection))?;
        let note = match self.answer("sockets.count", || json!(selection)) {
            Taped::Told(told) => return Ok(told),
            Taped::Ask(note) => note,
        };
        let counted = self.counted(selection).await;
        note.keep(&counted);
        Ok(counted)
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
        let said = self.connection()?.handshake();
        let headers = said.into_iter().flat_map(|said| &said.headers);
        let headers = headers.filter(|(name, _)| grants.header(name)).cloned();
        // No header has a colon in its name, so that no client can pass one off as a claim.
        let user = self
            .identity
            .as_ref()
            .and_then(|identity| identity.user.as_ref());
        let claims = user.into_iter().flat_map(|user| &user.token.granted);
        let claims = claims
            .filter(|(name, _)| grants.claim(name))
            .map(|(name, json)| (format!("claim:{name}"), json.to_string()));
        Ok(Request {
            query: said.map(|said| said.query.to_vec()).unwrap_or_default(),
            headers: headers.chain(claims).collect(),
        })
    }

    async fn found(&mut self, selection: types::Selection) -> Result<Vec<Socket>, Error> {
        if !self.grants().find() {
            return Err(denied("find"));
        }
        let selected = self.granted_selection(selection, None)?;
        let elsewhere = self
            .elsewhere(&selected, Want::All, self.deadline())
            .await?;
        let found = selected.connections(self.connection.as_deref(), &self.broadcast);
        let mut sockets = Vec::with_capacity(found.len() + elsewhere.len());
        let mut ids = HashSet::new();
        for connection in found {
            if !elsewhere.is_empty() {
                ids.insert(connection.id.clone());
            }
            self.tell(&mut sockets, |this| Socket {
                connection: told(&connection),
                rooms: this.granted_rooms(connection.rooms()),
                data: this.kept_with(&connection),
            })?;
        }
        let namespace = selected.path(self.connection.as_deref());
        let namespace = namespace.unwrap_or_default().to_owned();
        for (_, described) in elsewhere {
            // A client may have come over meanwhile.
            if ids.contains(&described.id) {
                continue;
            }
            self.tell(&mut sockets, |this| Socket {
                rooms: this.granted_rooms(described.rooms()),
                data: described
                    .data(&this.plugin)
                    .unwrap_or_else(|| NOTHING.to_owned()),
                connection: told_elsewhere(described, &namespace),
            })?;
        }
        Ok(sockets)
    }

    fn tell(
        &mut self,
        sockets: &mut Vec<Socket>,
        socket: impl FnOnce(&Self) -> Socket,
    ) -> Result<(), Error> {
        let socket = socket(self);
        // A part would pass for the whole.
        self.meter.answer(size(&socket))?;
        sockets.push(socket);
        Ok(())
    }

    async fn counted(&mut self, selection: types::Selection) -> Result<u64, Error> {
        if !self.grants().find() {
            return Err(denied("find"));
        }
        let selected = self.granted_selection(selection, None)?;
        let connection = self.connection.as_deref();
        let elsewhere = selected
            .count_elsewhere(connection, &self.broadcast, self.deadline())
            .await
            .map_err(|reason| unheard(&reason))?;
        let here = selected.count(connection, &self.broadcast);
        Ok((here + elsewhere) as u64)
    }

    /// Those of the sockets that other servers have.
    pub(super) async fn elsewhere(
        &mut self,
        selected: &Selected,
        want: Want,
        until: Instant,
    ) -> Result<Elsewhere, Error> {
        let connection = self.connection.as_deref();
        let max_bytes = self.meter.boundary_left();
        let found = selected.elsewhere(connection, &self.broadcast, want, until, max_bytes);
        found.await.map_err(|reason| match reason {
            Unheard::TooLarge => self.meter.boundary_full(),
            reason => unheard(&reason),
        })
    }

    /// How long the call may wait.
    fn deadline(&self) -> Instant {
        let now = Instant::now();
        self.until.map_or(now, |until| {
            until.checked_sub(RESERVE).map_or(now, Instant::from)
        })
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
        check_readable(json.get()).map_err(|error| invalid(&error))?;
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

/// What a guest is told if other servers cannot be asked.
pub(super) fn unheard(reason: &Unheard) -> Error {
    Error::Unavailable(reason.to_string())
}

fn told_elsewhere(described: Described, namespace: &str) -> types::Connection {
    types::Connection {
        namespace: namespace.to_owned(),
        address: described.address().to_owned(),
        user: described.user().as_ref().map(told_user),
        recovered: described.recovered(),
        id: described.id,
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
