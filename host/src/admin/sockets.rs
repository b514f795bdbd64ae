//! Single sockets, as pages see them in development: what differs from one look to the next.

use std::{
    collections::{BTreeMap, HashMap},
    iter,
    sync::Arc,
    time::SystemTime,
};

use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{
    page::Pages,
    watch::{Event, Notes},
};
use crate::{
    cluster::{Described, described::Handshake},
    config::KeyHash,
    connection::Connection,
    dispatch::host_events::AUTHENTICATE,
    record::{REDACTED, Redaction},
    transport::Session,
};

/// Of more sockets, those are shown whose clients came first.
const MAX_SOCKETS: usize = 1000;

/// What all that are shown may take as JSON, about; the others are left out.
const MAX_BYTES: usize = 2 << 20;

/// Data that is longer is told by its size only, and of more rooms the first are shown.
const MAX_DATA: usize = 4 << 10;
const MAX_ROOMS: usize = 100;

/// What a request says by these of a browser and its page is no secret; a page's whole address may be one.
pub(super) const HARMLESS_HEADERS: [&str; 6] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "host",
    "origin",
    "user-agent",
];

/// A socket, in Node's form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Socket {
    id: String,
    /// The same for all sockets of one client. It finds nothing but these.
    client_id: String,
    transport: &'static str,
    nsp: String,
    data: Box<RawValue>,
    handshake: Handshake,
    rooms: Vec<String>,
}

/// What changes of a socket.
#[derive(Serialize)]
struct Updated<'a> {
    id: &'a str,
    nsp: &'a str,
    transport: &'a str,
    data: &'a RawValue,
}

/// A socket's namespace and id.
type Key = (String, String);

/// What pages have been told.
#[derive(Default)]
pub(super) struct Sockets(BTreeMap<Key, Socket>);

impl Sockets {
    /// Looks at the connections, and tells pages what is new.
    pub(super) fn look(&mut self, connections: Vec<Arc<Connection>>, notes: Notes, pages: &Tell) {
        let now = shown(connections);
        let (at, reasons) = (text(SystemTime::now()), reasons(&notes));
        for (key, socket) in &now {
            match self.0.get(key) {
                None => pages.tell("socket_connected", &(socket, &at)),
                Some(before) => pages.tell_difference(before, socket, &at),
            }
        }
        for event in &notes.events {
            pages.tell_event(event);
        }
        for (key, _) in self.0.iter().filter(|(key, _)| !now.contains_key(*key)) {
            let (nsp, id) = key;
            let reason = reasons.get(&(&**nsp, &**id)).copied().unwrap_or_default();
            pages.tell("socket_disconnected", &(nsp, id, reason, &at));
        }
        if notes.left_out > 0 {
            tracing::debug!(
                events = notes.left_out,
                "admin pages are not told of some events"
            );
        }
        self.0 = now;
    }

    /// Nobody looks.
    pub(super) fn forget(&mut self) {
        self.0 = BTreeMap::new();
    }

    /// All that pages have been told of.
    pub(super) fn all(&self) -> Vec<&Socket> {
        self.0.values().collect()
    }
}

fn reasons(notes: &Notes) -> HashMap<(&str, &str), &'static str> {
    let ends = notes.ends.iter();
    ends.map(|end| ((&*end.namespace, &*end.socket), end.reason))
        .collect()
}

/// Those who are told.
pub(super) struct Tell<'a> {
    pub pages: &'a Pages,
    pub to: &'a [Arc<Session>],
}

impl Tell<'_> {
    /// Emits an event with several arguments.
    fn tell<T: Serialize>(&self, event: &str, arguments: &T) {
        if !self.to.is_empty() {
            self.pages.emit_all(self.to, event, arguments);
        }
    }

    fn tell_event(&self, event: &Event) {
        let Event {
            namespace,
            socket,
            name,
            arguments,
            at,
        } = event;
        let arguments = match redacted(arguments) {
            // A token, of whatever form.
            _ if name == AUTHENTICATE => vec![Value::from(REDACTED)],
            Value::Array(arguments) => arguments,
            size => vec![size],
        };
        let name = Value::from(&**name);
        let arguments: Vec<_> = iter::once(name).chain(arguments).collect();
        self.tell("event_received", &(namespace, socket, arguments, text(*at)));
    }

    fn tell_difference(&self, before: &Socket, now: &Socket, at: &str) {
        let Socket {
            id,
            transport,
            nsp,
            data,
            rooms,
            ..
        } = now;
        for room in rooms.iter().filter(|room| !before.rooms.contains(room)) {
            self.tell("room_joined", &(nsp, room, id, at));
        }
        for room in before.rooms.iter().filter(|room| !rooms.contains(room)) {
            self.tell("room_left", &(nsp, room, id, at));
        }
        if *transport != before.transport || data.get() != before.data.get() {
            let updated = Updated {
                id,
                nsp,
                transport,
                data,
            };
            self.tell("socket_updated", &(updated,));
        }
    }
}

/// Those that are shown.
fn shown(mut connections: Vec<Arc<Connection>>) -> BTreeMap<Key, Socket> {
    if connections.len() > MAX_SOCKETS {
        connections.select_nth_unstable_by_key(MAX_SOCKETS, |it| it.began());
        connections.truncate(MAX_SOCKETS);
    }
    connections.sort_by_key(|it| it.began());
    let (mut shown, mut bytes) = (BTreeMap::new(), 0);
    for connection in connections {
        let socket = Socket::of(&connection);
        bytes += socket.size();
        if bytes > MAX_BYTES {
            break;
        }
        shown.insert((socket.nsp.clone(), socket.id.clone()), socket);
    }
    shown
}

impl Socket {
    fn of(connection: &Connection) -> Self {
        let Described {
            id,
            mut handshake,
            rooms,
            data,
            ..
        } = Described::from(connection);
        handshake
            .headers
            .retain(|name, _| HARMLESS_HEADERS.contains(&&**name));
        let rooms = rooms.iter().take(MAX_ROOMS);
        let data = match data {
            Some(data) if data.get().len() <= MAX_DATA => redacted(data.get()),
            Some(data) => in_bytes(data.get().len()),
            None => Value::Null,
        };
        Self {
            client_id: connection.client_id(),
            transport: connection.transport(),
            nsp: connection.namespace().to_owned(),
            rooms: rooms.map(|room| room.name().to_owned()).collect(),
            data: raw(&data),
            handshake,
            id,
        }
    }

    /// What it takes as JSON, about.
    fn size(&self) -> usize {
        /// The names of the fields, and short texts.
        const FRAME: usize = 300;
        let Handshake { headers, query, .. } = &self.handshake;
        let pairs = headers.iter().chain(query);
        let pairs: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
        let rooms: usize = self.rooms.iter().map(String::len).sum();
        FRAME + self.id.len() + self.nsp.len() + self.data.get().len() + pairs + rooms
    }
}

impl Connection {
    /// What tells its client from others, and finds nothing: the session's id stays a secret.
    fn client_id(&self) -> String {
        let hash = KeyHash::of(self.key.session.to_string().as_bytes());
        let mut hash = hash.to_hex();
        hash.truncate(12);
        hash
    }
}

/// JSON without what is named like a secret, and without tokens.
fn redacted(json: &str) -> Value {
    match serde_json::from_str(json) {
        Ok(mut value) => {
            Redaction::default().payload(&mut value);
            value
        }
        // It has a number that is too large.
        Err(_) => in_bytes(json.len()),
    }
}

/// What is shown instead of what is long.
fn in_bytes(size: usize) -> Value {
    format!("[{size} bytes]").into()
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("JSON always serialises")
}

/// As JavaScript's `toISOString` writes it.
fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
