//! What rooms are told of who came and went: what the table says, held against what was told last.

use std::sync::Arc;

use super::{
    Table,
    bounds::{member_bytes, room_bytes},
    room::Room,
};
use crate::presence::{Member, Place, Who};

/// Who came and went since that was told last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::presence) struct Change {
    pub joined: Vec<Member>,
    pub left: Vec<Member>,
    /// With another number of connections or other data.
    pub updated: Vec<Member>,
}

impl Table {
    /// Something has changed of somebody.
    pub(super) fn has_changed(&mut self, place: &Place, who: Who) {
        if let Some(room) = self.rooms.get_mut(place) {
            Arc::make_mut(room).changed.insert(who);
            self.changed.insert(place.clone());
        }
    }

    /// Whether something has changed since it was told last.
    pub(in crate::presence) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has changed since it was told last, and is told now. Nobody is told of who came and went meanwhile.
    pub(in crate::presence) fn take_changes(&mut self) -> Vec<(Place, Change)> {
        let mut changes = Vec::new();
        for place in self.take_changed() {
            let change = self.change(&place);
            if change != Change::default() {
                changes.push((place.clone(), self.is_told(&place, change)));
            }
        }
        self.changed.clear();
        changes
    }

    /// The rooms in which something has changed since this was asked.
    pub(in crate::presence) fn take_changed(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// What is still to be told of a room.
    pub(in crate::presence) fn change(&mut self, place: &Place) -> Change {
        let Some(room) = self.rooms.get_mut(place) else {
            return Change::default();
        };
        let change = Arc::make_mut(room).change();
        self.forget_if_empty(place);
        change
    }

    /// Whether something is still to be told of a room.
    pub(in crate::presence) fn is_to_be_told(&self, place: &Place) -> bool {
        self.rooms
            .get(place)
            .is_some_and(|room| !room.changed.is_empty())
    }

    /// A room is told this; returns what of it is new.
    pub(in crate::presence) fn is_told(&mut self, place: &Place, change: Change) -> Change {
        let Some(room) = self.rooms.get_mut(place) else {
            return change;
        };
        let room = Arc::make_mut(room);
        let new = room.is_told(change, &mut self.bytes, self.bounds.widened().bytes);
        self.forget_if_empty(place);
        new
    }

    fn forget_if_empty(&mut self, place: &Place) {
        if self.rooms.get(place).is_some_and(|room| room.is_empty()) {
            self.rooms.remove(place);
            self.bytes -= room_bytes(place);
        }
    }
}

impl Room {
    /// What is to be told. Who is as was told is not looked at again.
    fn change(&mut self) -> Change {
        let Self {
            members,
            told,
            changed,
            ..
        } = self;
        let mut change = Change::default();
        changed.retain(|who| {
            let now = members.get(who).map(|member| member.member(who));
            match (told.get(who), now) {
                (None, Some(member)) => change.joined.push(member),
                (Some(told), Some(member)) if *told != member => change.updated.push(member),
                (Some(told), None) => change.left.push(Member {
                    connections: 0,
                    ..told.clone()
                }),
                _ => return false,
            }
            true
        });
        for list in [&mut change.joined, &mut change.left, &mut change.updated] {
            list.sort_by(|a, b| a.who.cmp(&b.who));
        }
        change
    }

    /// Notes what is told, and returns what of it is new. What is beyond `most` bytes is not noted.
    fn is_told(&mut self, change: Change, bytes: &mut usize, most: usize) -> Change {
        let Change {
            joined,
            left,
            updated,
        } = change;
        let mut new = Change::default();
        for member in joined.into_iter().chain(updated) {
            let who = member.who.clone();
            let takes = member_bytes(&who, &member.data);
            if *bytes + takes <= most {
                *bytes += takes;
                match self.told.insert(who.clone(), member.clone()) {
                    None => new.joined.push(member),
                    Some(told) => {
                        *bytes -= member_bytes(&who, &told.data);
                        if told != member {
                            new.updated.push(member);
                        }
                    }
                }
            } else {
                new.joined.push(member);
            }
            self.look_again_at(who);
        }
        for member in left {
            let who = member.who.clone();
            if let Some(told) = self.told.remove(&who) {
                *bytes -= member_bytes(&who, &told.data);
                new.left.push(member);
            }
            self.look_again_at(who);
        }
        new
    }

    /// Whether something of somebody is to be told.
    fn look_again_at(&mut self, who: Who) {
        match self.told.get(&who) == self.member(&who).as_ref() {
            true => self.changed.remove(&who),
            false => self.changed.insert(who),
        };
    }
}
