//! Which rooms are listed: those that somebody may know of, and wants to.

use serde::{Deserialize, Serialize};

use crate::{
    cluster::described::is_hidden,
    grant::{Grant, Grants, Pattern},
    reserved::{PAYMENTS_ROOM, is_reserved},
};

/// Rooms that begin with `prefix` and match one of the patterns of their kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoomFilter {
    prefix: String,
    rooms: Vec<String>,
    users: Vec<String>,
    roles: Vec<String>,
    payments: bool,
}

/// Whose a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoomKind {
    /// The application's.
    Room,
    /// The host's, for the sockets of a user.
    User,
    /// The host's, for those with a role.
    Role,
    /// The host's, for those who get payment updates.
    Payments,
}

impl RoomKind {
    /// All that there are.
    pub(crate) const ALL: [Self; 4] = [Self::Room, Self::User, Self::Role, Self::Payments];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::User => "user",
            Self::Role => "role",
            Self::Payments => "payments",
        }
    }

    /// Of the room with this name.
    pub(crate) fn of(room: &str) -> Self {
        match room.split_once(':') {
            _ if !is_reserved(room) => Self::Room,
            Some(("user", _)) => Self::User,
            Some(("role", _)) => Self::Role,
            _ => Self::Payments,
        }
    }
}

impl RoomFilter {
    /// Rooms of these kinds that begin so, as far as the rights reach.
    pub(crate) fn granted(rights: &Grants, kinds: &[RoomKind], prefix: String) -> Self {
        let text = |pattern: &Pattern| pattern.as_str().to_owned();
        let mut filter = Self {
            prefix,
            ..Self::default()
        };
        let wants = |kind| kinds.contains(&kind);
        for right in rights.iter() {
            match right {
                Grant::Room(rooms) if wants(RoomKind::Room) => filter.rooms.push(text(rooms)),
                Grant::User { user, event } if wants(RoomKind::User) && event.is_any() => {
                    filter.users.push(text(user));
                }
                Grant::Role { role, event } if wants(RoomKind::Role) && event.is_any() => {
                    filter.roles.push(text(role));
                }
                Grant::Payments => filter.payments |= wants(RoomKind::Payments),
                _ => {}
            }
        }
        filter
    }

    /// Whether a room is listed.
    pub(super) fn takes(&self, room: &str) -> bool {
        if !room.starts_with(&*self.prefix) || is_hidden(room) {
            return false;
        }
        let some = |patterns: &[String], name: &str| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| Pattern::new(pattern).matches(name))
        };
        match (RoomKind::of(room), room.split_once(':')) {
            (RoomKind::User, Some((_, id))) => some(&self.users, id),
            (RoomKind::Role, Some((_, role))) => some(&self.roles, role),
            (RoomKind::Room, _) => some(&self.rooms, room),
            _ => self.payments && room == PAYMENTS_ROOM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMS: [&str; 7] = [
        "hall",
        "hall:1",
        "other",
        "user:7",
        "role:admin",
        "payments",
        "mixlab:own",
    ];

    fn listed(rights: &[&str], kinds: &[RoomKind], prefix: &str) -> Vec<&'static str> {
        let rights: Grants = rights.iter().map(|text| text.parse().unwrap()).collect();
        let filter = RoomFilter::granted(&rights, kinds, prefix.to_owned());
        ROOMS
            .into_iter()
            .filter(|room| filter.takes(room))
            .collect()
    }

    #[test]
    fn rooms_are_listed_as_far_as_rights_reach() {
        let all = &RoomKind::ALL;
        assert!(listed(&["find"], all, "").is_empty());
        assert_eq!(
            listed(&["room:*"], all, ""),
            ["hall", "hall:1", "other"],
            "no room of the host's"
        );
        assert_eq!(listed(&["room:hall*"], all, "hall:"), ["hall:1"]);
        assert_eq!(
            listed(&["user:7", "role:admin:news"], all, ""),
            ["user:7"],
            "an event of a role is not all that there is of it"
        );
        let every = &["room:*", "user:*", "role:*", "payments"];
        assert_eq!(listed(every, all, ""), ROOMS[..6]);
        for kind in RoomKind::ALL {
            assert!(
                listed(every, &[kind], "")
                    .iter()
                    .all(|room| RoomKind::of(room) == kind)
            );
        }
        assert_eq!(listed(every, &[RoomKind::Room], ""), ROOMS[..3]);
    }
}
