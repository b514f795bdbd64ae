//! Who came and went, as clients are told.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Member, Who, table::Change};
use crate::message::{Arguments, Message};

/// One who is present, as clients are told.
#[derive(Serialize, Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    anonymous: bool,
    connections: u32,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What rooms are told.
#[derive(Serialize, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow)]
    joined: Vec<Shown<'a>>,
    #[serde(borrow)]
    left: Vec<Shown<'a>>,
    #[serde(borrow)]
    updated: Vec<Shown<'a>>,
}

pub(super) fn told(room: &str, change: &Change) -> Message {
    let told = Told {
        room: room.into(),
        joined: change.joined.iter().filter_map(shown).collect(),
        left: change.left.iter().filter_map(shown).collect(),
        updated: change.updated.iter().filter_map(shown).collect(),
    };
    Message::text(Arguments::from_serialized(&[&told]))
}

/// The inverse of [`told`].
pub(super) fn read_told(message: &Message) -> Option<(String, Change)> {
    let (told,): (Told<'_>,) = serde_json::from_str(message.arguments.as_str()).ok()?;
    let members = |shown: Vec<Shown<'_>>| shown.into_iter().map(Shown::member).collect();
    let change = Change {
        joined: members(told.joined),
        left: members(told.left),
        updated: members(told.updated),
    };
    Some((told.room.into_owned(), change))
}

impl Shown<'_> {
    fn member(self) -> Member {
        let id = Arc::from(self.id);
        Member {
            who: match self.anonymous {
                true => Who::Anonymous(id),
                false => Who::User(id),
            },
            connections: self.connections,
            data: self.data.get().into(),
        }
    }
}

/// None for data that is no JSON, which nobody enters with.
fn shown(member: &Member) -> Option<Shown<'_>> {
    Some(Shown {
        id: member.who.id().into(),
        anonymous: member.who.is_anonymous(),
        connections: member.connections,
        data: serde_json::from_str(&member.data).ok()?,
    })
}
