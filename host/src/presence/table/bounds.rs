//! How much there may be: rooms, users in one of them, and memory.

use super::Table;
use crate::{
    config,
    presence::{Place, Who},
};

/// Others have let somebody be present who came at the same moment as the last that there was room for: so much of
/// a bound, as a part of it, may go beyond it.
const AT_THE_SAME_MOMENT: usize = 4;

/// What a room, somebody in it (who is kept twice, as it is and as it was told) and a connection take beside their
/// texts, in bytes.
pub(super) const ROOM_BYTES: usize = 600;
pub(super) const MEMBER_BYTES: usize = 200;
pub(super) const CONNECTION_BYTES: usize = 300;

/// Why somebody cannot be present.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("presence.{bound} = {allowed}")]
pub struct Full {
    /// The key in `mixlab.toml`.
    bound: &'static str,
    /// Its value.
    allowed: String,
}

/// How much there may be.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) rooms: usize,
    pub(super) users: usize,
    pub(super) bytes: usize,
}

impl Bounds {
    pub(super) fn new(bounds: &config::Presence) -> Self {
        Self {
            rooms: bounds.rooms,
            users: bounds.users,
            bytes: bounds.bytes.as_usize(),
        }
    }

    /// With room for those whom others have let be present at the same moment.
    pub(super) fn widened(self) -> Self {
        let more = |bound: usize| bound.saturating_add(bound / AT_THE_SAME_MOMENT + 1);
        Self {
            rooms: more(self.rooms),
            users: more(self.users),
            bytes: more(self.bytes),
        }
    }
}

/// What a room takes that somebody is in.
pub(super) fn room_bytes(place: &Place) -> usize {
    ROOM_BYTES + place.namespace().len() + place.room().len()
}

/// What one who is present takes, as it is or as it was told.
pub(in crate::presence) fn member_bytes(who: &Who, data: &str) -> usize {
    MEMBER_BYTES + who.id().len() + data.len()
}

impl Table {
    /// Whether one has a place whom this server lets be present.
    pub(in crate::presence) fn has_place(&self, place: &Place, who: &Who) -> Result<(), Full> {
        self.check(place, who, self.bounds)
    }

    /// Whether one has a place whom another server has let be present.
    pub(in crate::presence) fn has_place_for_others(
        &self,
        place: &Place,
        who: &Who,
    ) -> Result<(), Full> {
        self.check(place, who, self.bounds.widened())
    }

    fn check(&self, place: &Place, who: &Who, bounds: Bounds) -> Result<(), Full> {
        let full = |bound, allowed: usize| {
            Err(Full {
                bound,
                allowed: allowed.to_string(),
            })
        };
        let room = self.rooms.get(place);
        if room.is_none() && self.rooms.len() >= bounds.rooms {
            return full("rooms", bounds.rooms);
        }
        let is_new = room.is_none_or(|room| !room.members.contains_key(who));
        if is_new && room.is_some_and(|room| room.members.len() >= bounds.users) {
            return full("users", bounds.users);
        }
        if self.bytes >= bounds.bytes {
            return full("bytes", bounds.bytes);
        }
        Ok(())
    }
}
