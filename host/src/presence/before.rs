//! What rooms were told before this server knew who is present.
//!
//! Two servers may tell of the same thing at the same moment, and each passes on what its table says is new. A server
//! that has no table yet reads the same entries, for clients that come back to it: it takes out of each what an earlier
//! one has said. What was told before the first of them is not known.

use std::collections::HashMap;

use super::{
    Member, Place, Who,
    table::{Change, member_bytes},
};

/// Whom rooms were told of.
pub(super) struct Before {
    rooms: HashMap<Place, HashMap<Who, Told>>,
    bytes: usize,
    /// What is beyond this is not noted.
    most: usize,
}

/// What was told of somebody last.
#[derive(PartialEq, Eq)]
enum Told {
    Present(Member),
    Gone,
}

impl Before {
    /// Nothing yet, and never more than so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            rooms: HashMap::new(),
            bytes: 0,
            most,
        }
    }

    /// A room is told this; returns what of it is new.
    pub(super) fn is_told(&mut self, place: &Place, change: Change) -> Change {
        let mut new = Change::default();
        for member in change.joined {
            match self.note(place, &member.who, Told::Present(member.clone())) {
                None | Some(Told::Gone) => new.joined.push(member),
                Some(Told::Present(told)) if told != member => new.updated.push(member),
                Some(Told::Present(_)) => {}
            }
        }
        for member in change.updated {
            match self.note(place, &member.who, Told::Present(member.clone())) {
                Some(Told::Gone) => new.joined.push(member),
                Some(Told::Present(told)) if told == member => {}
                None | Some(Told::Present(_)) => new.updated.push(member),
            }
        }
        for member in change.left {
            if self.note(place, &member.who, Told::Gone) != Some(Told::Gone) {
                new.left.push(member);
            }
        }
        new
    }

    /// Returns what was told before.
    fn note(&mut self, place: &Place, who: &Who, told: Told) -> Option<Told> {
        let takes = told.bytes(who);
        let its = self.rooms.get_mut(place).and_then(|room| room.remove(who));
        self.bytes -= its.as_ref().map_or(0, |its| its.bytes(who));
        if self.bytes + takes <= self.most {
            self.bytes += takes;
            let room = self.rooms.entry(place.clone()).or_default();
            room.insert(who.clone(), told);
        }
        its
    }
}

impl Told {
    fn bytes(&self, who: &Who) -> usize {
        let data = match self {
            Self::Present(member) => &*member.data,
            Self::Gone => "",
        };
        member_bytes(who, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, connections: u32) -> Member {
        Member {
            who: Who::User(id.into()),
            connections,
            data: "1".into(),
        }
    }

    fn joined(id: &str, connections: u32) -> Change {
        Change {
            joined: vec![member(id, connections)],
            ..Change::default()
        }
    }

    fn updated(id: &str, connections: u32) -> Change {
        Change {
            updated: vec![member(id, connections)],
            ..Change::default()
        }
    }

    fn left(id: &str) -> Change {
        Change {
            left: vec![member(id, 0)],
            ..Change::default()
        }
    }

    #[test]
    fn what_was_told_is_not_new() {
        let place = Place::new("/", "r");
        let mut before = Before::new(10_000);
        let nothing = Change::default;
        for (told, new) in [
            (joined("ada", 1), joined("ada", 1)),
            (joined("ada", 1), nothing()),
            (joined("ada", 2), updated("ada", 2)),
            (updated("ada", 2), nothing()),
            (updated("ada", 3), updated("ada", 3)),
            (left("ada"), left("ada")),
            (left("ada"), nothing()),
            (updated("ada", 1), joined("ada", 1)),
            // Of these nothing was heard before.
            (updated("bob", 1), updated("bob", 1)),
            (left("eve"), left("eve")),
        ] {
            let shown = format!("{told:?}");
            assert_eq!(before.is_told(&place, told), new, "{shown}");
        }
        let other = Place::new("/", "other");
        assert_eq!(before.is_told(&other, joined("ada", 1)), joined("ada", 1));
    }

    #[test]
    fn what_is_beyond_the_bound_is_told_again() {
        let place = Place::new("/", "r");
        let mut before = Before::new(member_bytes(&member("ada", 1).who, "1"));
        before.is_told(&place, joined("ada", 1));
        for _ in 0..2 {
            assert_eq!(before.is_told(&place, joined("bob", 1)), joined("bob", 1));
        }
        assert_eq!(before.is_told(&place, joined("ada", 1)), Change::default());
    }
}
