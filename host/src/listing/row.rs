//! What is told of each: a socket, a user, a room.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{cluster::Described, connection::Connection, user};

/// One row of a list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Row {
    Socket(Socket),
    User(User),
    Room(Room),
}

/// A socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Socket {
    /// The public id.
    pub id: String,
    /// Whose it is.
    pub user: Option<Person>,
    pub rooms: Vec<String>,
    pub address: String,
    /// Whether its client lost it and has it back.
    pub recovered: bool,
    /// When its client came, in milliseconds since 1970.
    pub since: u64,
    /// What plugins keep with it, by their names; of a Node server's the `socket.data`.
    pub data: Option<Box<RawValue>>,
}

/// Who a user is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub id: String,
    pub username: Option<String>,
    pub roles: Vec<String>,
}

/// A user with sockets.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub person: Person,
    /// How many these are.
    pub sockets: usize,
    /// When the first of their clients came, in milliseconds since 1970.
    pub since: u64,
}

/// A room with sockets in it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Room {
    pub name: String,
    /// How many these are.
    pub sockets: usize,
}

impl Row {
    /// What it is found by.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Socket(socket) => &socket.id,
            Self::User(user) => &user.person.id,
            Self::Room(room) => &room.name,
        }
    }

    /// What it takes as JSON, in bytes, about.
    pub(super) fn size(&self) -> usize {
        /// The names of the fields, and numbers.
        const FRAME: usize = 200;
        /// Quotes and a comma.
        const TEXT: usize = 3;
        let of_all = |texts: &[String]| texts.iter().map(|it| it.len() + TEXT).sum::<usize>();
        let of_person = |it: &Person| {
            let username = it.username.as_ref().map_or(0, String::len);
            it.id.len() + username + of_all(&it.roles)
        };
        FRAME
            + match self {
                Self::Socket(it) => {
                    let data = it.data.as_ref().map_or(0, |data| data.get().len());
                    it.id.len()
                        + it.user.as_ref().map_or(0, of_person)
                        + of_all(&it.rooms)
                        + it.address.len()
                        + data
                }
                Self::User(it) => of_person(&it.person),
                Self::Room(it) => it.name.len(),
            }
    }

    /// Adds what another server, or another socket, has of the same.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::User(this), Self::User(other)) => {
                this.sockets += other.sockets;
                this.since = this.since.min(other.since);
                for role in other.person.roles {
                    if !this.person.roles.contains(&role) {
                        this.person.roles.push(role);
                    }
                }
            }
            (Self::Room(this), Self::Room(other)) => this.sockets += other.sockets,
            // A socket is on one server; its client may have come over meanwhile.
            _ => {}
        }
    }
}

impl Socket {
    /// One of this server.
    pub(super) fn here(connection: &Connection, with_data: bool) -> Self {
        let kept = with_data.then(|| {
            let all = connection.data.all();
            let kept: BTreeMap<&str, &RawValue> = all
                .iter()
                .filter_map(|(plugin, json)| Some((&**plugin, serde_json::from_str(json).ok()?)))
                .collect();
            to_raw_value(&kept).expect("its keys are texts")
        });
        let identity = connection.identity();
        Self {
            id: connection.id.clone(),
            user: identity.user.as_ref().map(Person::from),
            rooms: connection.rooms(),
            address: connection.address.to_string(),
            recovered: connection.recovered,
            since: milliseconds(connection.began()),
            data: kept,
        }
    }

    /// One of a server that does not know of pages.
    pub(super) fn elsewhere(described: Described, with_data: bool) -> Self {
        Self {
            user: described.user().as_ref().map(Person::from),
            rooms: described.rooms(),
            address: described.address().to_owned(),
            recovered: described.recovered(),
            since: described.handshake.issued,
            id: described.id,
            data: described.data.filter(|_| with_data),
        }
    }
}

impl User {
    pub(super) fn of(user: &user::User, since: u64) -> Self {
        Self {
            person: Person::from(user),
            sockets: 1,
            since,
        }
    }
}

impl From<&user::User> for Person {
    fn from(user: &user::User) -> Self {
        Self {
            id: user.id.as_str().to_owned(),
            username: user.username.clone(),
            roles: user.roles.clone(),
        }
    }
}

/// Since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_string(self).unwrap() == serde_json::to_string(other).unwrap()
    }
}
