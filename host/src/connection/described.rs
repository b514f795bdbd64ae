//! What other servers are told of a connection.

use std::{collections::BTreeMap, sync::Arc, time::UNIX_EPOCH};

use serde_json::value::{RawValue, to_raw_value};

use super::Connection;
use crate::{
    cluster::{
        Described,
        described::{Handshake, OfMixlab, OfUser, Room, is_hidden},
    },
    secrets::is_json_web_token,
};

/// Parameters and headers with such a word in their names are not told: they may let somebody in, and nobody misses
/// one too many.
const WORDS: [&str; 11] = [
    "token",
    "secret",
    "pass",
    "auth",
    "cookie",
    "key",
    "jwt",
    "credential",
    "session",
    "ticket",
    "signature",
];

/// Nor are those of these names.
const NAMES: [&str; 4] = ["code", "sid", "sig", "state"];

impl From<&Connection> for Described {
    fn from(connection: &Connection) -> Self {
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
            handshake: handshake(connection),
            rooms: rooms.into_iter().map(Room::Text).collect(),
            data: Some(data.expect("its keys are texts")),
            mixlab: Some(OfMixlab {
                user: identity.user.as_ref().map(OfUser::of),
                recovered: connection.recovered,
            }),
        }
    }
}

fn handshake(connection: &Connection) -> Handshake {
    let shown = |pairs: &[(String, String)]| {
        let shown = pairs.iter();
        let shown = shown.filter(|(name, value)| !is_secret(name) && !is_json_web_token(value));
        shown.cloned().collect()
    };
    let said = connection.handshake();
    let began = connection.began();
    Handshake {
        address: connection.address.to_string(),
        headers: said.map(|said| shown(&said.headers)).unwrap_or_default(),
        query: said.map(|said| shown(&said.query)).unwrap_or_default(),
        time: humantime::format_rfc3339_millis(began).to_string(),
        issued: began
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64),
        ..Handshake::default()
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word)) || NAMES.contains(&&*name)
}
