//! A socket, as servers tell each other of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use crate::cluster::stream::entry::Room;
use crate::user::{TokenClaims, User, UserId};

/// A socket, in the form of the adapter's `fetchSockets`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Described {
    /// The public id.
    pub id: String,
    #[serde(default)]
    pub handshake: Handshake,
    #[serde(default)]
    pub rooms: Vec<Room>,
    /// The `socket.data` of Node's servers; of a MixLab server what plugins keep, by their names.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
    /// Only MixLab's servers say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixlab: Option<OfMixlab>,
}

/// What Node's servers know of a handshake. Of what they say only the address, and when it was, are read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Handshake {
    pub address: String,
    #[serde(skip_deserializing)]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_deserializing)]
    pub query: BTreeMap<String, String>,
    #[serde(skip_deserializing)]
    pub auth: BTreeMap<String, String>,
    /// When it was, as text and in milliseconds since 1970.
    #[serde(skip_deserializing)]
    pub time: String,
    pub issued: u64,
    #[serde(skip_deserializing)]
    pub xdomain: bool,
    #[serde(skip_deserializing)]
    pub secure: bool,
    #[serde(skip_deserializing)]
    pub url: String,
}

/// What only MixLab's servers know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfMixlab {
    pub user: Option<OfUser>,
    pub recovered: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfUser {
    id: String,
    username: Option<String>,
    roles: Vec<String>,
}

impl Described {
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
            token: TokenClaims::default(),
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

impl OfUser {
    pub(crate) fn of(user: &User) -> Self {
        Self {
            id: user.id.as_str().to_owned(),
            username: user.username.clone(),
            roles: user.roles.clone(),
        }
    }
}

pub(crate) fn is_hidden(room: &str) -> bool {
    room.starts_with("mixlab:")
}
