//! A socket, as servers tell each other of it.

use std::{collections::BTreeMap, sync::Arc, time::UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::cluster::stream::entry::Room;
use crate::{
    connection::Connection,
    user::{User, UserId},
};

/// Parameters and headers with such a word in their names are not told: they let somebody in.
const SECRETS: [&str; 6] = [
    "token",
    "secret",
    "password",
    "authorization",
    "cookie",
    "key",
];

/// A socket, in the form of the adapter's `fetchSockets`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Described {
    /// The public id.
    pub id: String,
    #[serde(default)]
    handshake: Handshake,
    #[serde(default)]
    rooms: Vec<Room>,
    /// The `socket.data` of Node's servers; of a MixLab server what plugins keep, by their names.
    #[serde(default)]
    data: Option<Box<RawValue>>,
    /// Only MixLab's servers say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mixlab: Option<OfMixlab>,
}

/// What Node's servers know of a handshake. Of what they say only the address is read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Handshake {
    address: String,
    #[serde(skip_deserializing)]
    headers: BTreeMap<String, String>,
    #[serde(skip_deserializing)]
    query: BTreeMap<String, String>,
    #[serde(skip_deserializing)]
    auth: BTreeMap<String, String>,
    /// When it was, as text and in milliseconds since 1970.
    #[serde(skip_deserializing)]
    time: String,
    #[serde(skip_deserializing)]
    issued: u64,
    #[serde(skip_deserializing)]
    xdomain: bool,
    #[serde(skip_deserializing)]
    secure: bool,
    #[serde(skip_deserializing)]
    url: String,
}

/// What only MixLab's servers know.
#[derive(Debug, Serialize, Deserialize)]
struct OfMixlab {
    user: Option<OfUser>,
    recovered: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct OfUser {
    id: String,
    username: Option<String>,
    roles: Vec<String>,
}

impl Described {
    /// All that others may know of a connection.
    pub(crate) fn of(connection: &Connection) -> Self {
        let identity = connection.identity();
        let mut rooms = connection.rooms();
        rooms.retain(|room| !is_hidden(room));
        // As in Node, where a socket is in a room of its own.
        rooms.insert(0, connection.id.clone());
        let of_plugin = |(plugin, json): (Arc<str>, Arc<str>)| {
            let json = RawValue::from_string(json.as_ref().to_owned());
            (plugin.to_string(), json.expect("plugins keep JSON"))
        };
        let kept = connection.data.all().into_iter().map(of_plugin);
        let data = to_raw_value(&kept.collect::<BTreeMap<_, _>>());
        Self {
            id: connection.id.clone(),
            handshake: Handshake::of(connection),
            rooms: rooms.into_iter().map(Room::Text).collect(),
            data: Some(data.expect("its keys are texts")),
            mixlab: Some(OfMixlab {
                user: identity.user.as_ref().map(OfUser::of),
                recovered: connection.recovered,
            }),
        }
    }

    /// Its id alone.
    pub(crate) fn id(id: String) -> Self {
        Self {
            id,
            handshake: Handshake::default(),
            rooms: Vec::new(),
            data: None,
            mixlab: None,
        }
    }

    /// The client's address, as its server says.
    pub(crate) fn address(&self) -> &str {
        &self.handshake.address
    }

    /// Who it belongs to; nobody with Node's servers, which know no users.
    pub(crate) fn user(&self) -> Option<User> {
        let OfUser {
            id,
            username,
            roles,
        } = self.mixlab.as_ref()?.user.as_ref()?;
        Some(User {
            id: UserId::from_text(id)?,
            username: username.clone(),
            roles: roles.clone(),
            expires: None,
        })
    }

    /// Whether its client lost it and has it back.
    pub(crate) fn recovered(&self) -> bool {
        self.mixlab.as_ref().is_some_and(|it| it.recovered)
    }

    /// The rooms that it is in, without that of its id.
    pub(crate) fn rooms(&self) -> Vec<String> {
        let names = self.rooms.iter().map(Room::name);
        names
            .filter(|room| *room != self.id && !is_hidden(room))
            .collect()
    }

    /// What a plugin keeps with it, as JSON; what Node's servers keep with theirs is everybody's.
    pub(crate) fn data(&self, plugin: &str) -> Option<String> {
        let data = self.data.as_ref()?;
        if self.mixlab.is_none() {
            return Some(data.get().to_owned());
        }
        let mut data: BTreeMap<String, Box<RawValue>> = serde_json::from_str(data.get()).ok()?;
        Some(String::from(Box::<str>::from(data.remove(plugin)?)))
    }
}

impl Handshake {
    fn of(connection: &Connection) -> Self {
        let shown = |pairs: &[(String, String)]| {
            let shown = pairs.iter().filter(|(name, _)| !is_secret(name));
            shown.cloned().collect()
        };
        let said = connection.handshake();
        Self {
            address: connection.address.to_string(),
            headers: said.map(|said| shown(&said.headers)).unwrap_or_default(),
            query: said.map(|said| shown(&said.query)).unwrap_or_default(),
            time: humantime::format_rfc3339_millis(connection.began()).to_string(),
            issued: connection
                .began()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            ..Self::default()
        }
    }
}

impl OfUser {
    fn of(user: &User) -> Self {
        Self {
            id: user.id.as_str().to_owned(),
            username: user.username.clone(),
            roles: user.roles.clone(),
        }
    }
}

fn is_hidden(room: &str) -> bool {
    room.starts_with("mixlab:")
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|secret| name.contains(secret))
}
