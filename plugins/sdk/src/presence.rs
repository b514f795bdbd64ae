//! Who is present in rooms.
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::presence;
use crate::rejection::not_json;
use crate::{Context, Error};

impl Context {
    /// Who is present in a room: each user once, with the number of its connections. Grant:
    /// `presence:ROOM`.
    ///
    /// ```no_run
    /// use mixlab_plugin::{Member, prelude::*};
    ///
    /// fn join(cx: &Context, name: String) -> Result<Vec<Member<String>>, Rejection> {
    ///     cx.presence("chat:42").enter(&name)?;
    ///     Ok(cx.presence("chat:42").members()?)
    /// }
    /// ```
    pub fn presence(&self, room: impl Into<String>) -> Presence {
        Presence { room: room.into() }
    }
}

/// Who is present in a room. The room hears of it by the event `presence`.
#[derive(Clone, Debug)]
#[must_use = "nothing is read or done without one of its methods"]
pub struct Presence {
    room: String,
}

/// Somebody who is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Member<T> {
    /// Of the user, or of the anonymous connection.
    pub id: String,
    /// Whether it is a connection that belongs to nobody.
    pub anonymous: bool,
    /// How many are there; 0 while it is away and may come back.
    pub connections: u32,
    /// What was said of it.
    pub data: T,
}

impl Presence {
    /// Puts the sender into the room, present from now on, with this data of its user: an effect.
    pub fn enter(&self, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        presence::enter(&self.room, &serde_json::to_string(data).map_err(not_json)?)
    }

    /// Takes the sender out of the room: an effect.
    pub fn leave(&self) -> Result<(), Error> {
        presence::leave(&self.room)
    }

    /// Who is present, before the effects of this call.
    pub fn members<T: DeserializeOwned>(&self) -> Result<Vec<Member<T>>, Error> {
        let members = presence::members(&self.room)?;
        members.into_iter().map(typed).collect()
    }

    /// How many are.
    pub fn count(&self) -> Result<u64, Error> {
        presence::count(&self.room)
    }
}

fn typed<T: DeserializeOwned>(member: presence::Member) -> Result<Member<T>, Error> {
    let data = serde_json::from_str(&member.data);
    Ok(Member {
        id: member.id,
        anonymous: member.anonymous,
        connections: member.connections,
        data: data.map_err(|error| Error::Invalid(format!("data: {error}")))?,
    })
}
