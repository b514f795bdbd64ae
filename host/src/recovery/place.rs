//! Where an event stands in what a client gets.

use serde::{Deserialize, Serialize};

use crate::cluster::EntryId;

/// A place in the stream of events that one client gets. Their order is that of the stream.
///
/// A namespace gives out numbers, one to each broadcast and one to each connection that begins. What
/// a client has seen in an earlier connection so stands before everything in its present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the broadcast that stands here, or that would come next.
    pub number: u64,
    /// What stands here.
    pub kind: Kind,
}

/// What stands at a place. Before each broadcast there is room for any number of events to the
/// connection alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// So many events to this connection alone have been sent, the last of them at the latest here.
    Own(u64),
    /// A broadcast.
    Broadcast,
}

/// What all places of a log have in front, behind [`MARK`]: without it, a place of a log that is gone
/// could pass for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag([u8; TAG_LENGTH]);

/// How the places of a namespace's broadcasts are numbered and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// By this server alone.
    Tagged(Tag),
    /// By the ids of entries, which all servers of a cluster know. They are written as those are.
    Entries,
}

/// What a client shows for the last event that it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offset {
    /// A place of this log.
    Here(Place),
    /// A place of another log: of an earlier run of the server, or of a namespace that was closed.
    Elsewhere,
    /// No place: the application's own words.
    Other,
}

/// What stands instead of a place with an event by which nobody may come back.
pub(crate) const NO_PLACE: &str = "-";

/// What all places begin with: hardly a text of an application is written like one.
const MARK: u8 = b'~';

const TAG_LENGTH: usize = 3;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/// The digits of the largest number.
const MAX_DIGITS: usize = 11;

/// Between the numbers of an event to one connection.
const DOT: char = '.';

impl Place {
    /// Of the broadcast with this number.
    pub fn broadcast(number: u64) -> Self {
        Self {
            number,
            kind: Kind::Broadcast,
        }
    }

    /// Behind so many of a connection's own events, before what takes `number`.
    pub fn own(number: u64, count: u64) -> Self {
        Self {
            number,
            kind: Kind::Own(count),
        }
    }

    /// How many of a connection's own events there were up to it; none for a broadcast's.
    pub(super) fn count(self) -> Option<u64> {
        match self.kind {
            Kind::Own(count) => Some(count),
            Kind::Broadcast => None,
        }
    }

    /// The first number of a broadcast behind it.
    pub fn next_number(self) -> u64 {
        match self.kind {
            Kind::Own(_) => self.number,
            Kind::Broadcast => self.number + 1,
        }
    }

    /// As clients keep it: a few letters that JSON need not escape.
    pub fn write(self, tag: Tag) -> String {
        let mut text = String::with_capacity(1 + TAG_LENGTH + 2 * MAX_DIGITS + 1);
        text.push(char::from(MARK));
        text.extend(tag.0.map(char::from));
        push_number(self.number, &mut text);
        if let Kind::Own(count) = self.kind {
            text.push(DOT);
            push_number(count, &mut text);
        }
        text
    }

    /// Reads the numbers behind the tag. There is one way to write a place.
    fn read(numbers: &[u8]) -> Option<Self> {
        let mut numbers = numbers.split(|byte| *byte == DOT as u8);
        let first = number(numbers.next()?)?;
        let place = match numbers.next() {
            None => Self::broadcast(first),
            Some(count) => Self::own(first, number(count)?),
        };
        numbers.next().is_none().then_some(place)
    }
}

impl Notation {
    /// The place of the broadcast with this number, as clients keep it.
    pub(crate) fn write(self, number: u64) -> String {
        match self {
            Self::Tagged(tag) => Place::broadcast(number).write(tag),
            Self::Entries => EntryId::from_number(number).to_string(),
        }
    }

    /// The tag of a new connection's own events. Those of one server's log need none of their own.
    pub(crate) fn tag(self) -> Tag {
        match self {
            Self::Tagged(tag) => tag,
            Self::Entries => Tag::random(),
        }
    }

    /// Reads what a client shows whose own events have this tag.
    pub(crate) fn read(self, own: Tag, text: &str) -> Offset {
        let entry = match self {
            Self::Tagged(_) => None,
            Self::Entries => EntryId::parse(text),
        };
        match entry {
            Some(id) => Offset::Here(Place::broadcast(id.number())),
            None => Offset::read(own, text),
        }
    }
}

impl Offset {
    /// Reads what a client of the log with this tag shows.
    pub(crate) fn read(tag: Tag, text: &str) -> Self {
        let tagged = text.as_bytes().strip_prefix(&[MARK]);
        let Some((shown, numbers)) = tagged.and_then(<[u8]>::split_first_chunk) else {
            return Self::Other;
        };
        match Place::read(numbers) {
            Some(place) if *shown == tag.0 => Self::Here(place),
            Some(_) if shown.iter().all(|byte| DIGITS.contains(byte)) => Self::Elsewhere,
            _ => Self::Other,
        }
    }
}

impl Tag {
    /// A tag of one's own.
    pub fn random() -> Self {
        Self(rand::random::<[u8; TAG_LENGTH]>().map(|byte| DIGITS[usize::from(byte & 63)]))
    }
}

fn push_number(mut number: u64, out: &mut String) {
    let mut digits = [0; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    loop {
        start -= 1;
        digits[start] = DIGITS[(number & 63) as usize];
        number >>= 6;
        if number == 0 {
            break;
        }
    }
    out.extend(digits[start..].iter().copied().map(char::from));
}

fn number(digits: &[u8]) -> Option<u64> {
    let leads_with_zero = digits.len() > 1 && digits[0] == DIGITS[0];
    if digits.is_empty() || digits.len() >= MAX_DIGITS || leads_with_zero {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        let digit = DIGITS.iter().position(|other| other == digit)?;
        Some(number << 6 | digit as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_in_no_other_way() {
        let tag = Tag(*b"abc");
        for (place, text) in [
            (Place::broadcast(0), "~abc0"),
            (Place::broadcast(63), "~abc_"),
            (Place::broadcast(64), "~abc10"),
            (Place::own(0, 0), "~abc0.0"),
            (Place::own(4096, 5), "~abc100.5"),
        ] {
            assert_eq!(place.write(tag), text);
            assert_eq!(Offset::read(tag, text), Offset::Here(place));
            let elsewhere = place.write(Tag(*b"abd"));
            assert_eq!(Offset::read(tag, &elsewhere), Offset::Elsewhere);
        }
        for other in [
            "",
            "abc0",
            "~abc",
            "~0",
            "~a.c0",
            "~abc00",
            "~abc0.",
            "~abc.0",
            "~abc0.00",
            "~abc0.0.0",
            "~abc+1",
            "~abc 1",
            "~abc0\"",
            "~abcé",
            "~abcZZZZZZZZZZZ",
        ] {
            assert_eq!(Offset::read(tag, other), Offset::Other, "{other}");
        }
    }

    #[test]
    fn own_events_stand_before_the_broadcast_that_follows_them() {
        let order = [
            Place::own(0, 0),
            Place::own(0, 1),
            Place::broadcast(0),
            Place::broadcast(1),
            Place::own(2, 2),
            Place::broadcast(2),
        ];
        assert!(order.is_sorted());
        let next: Vec<u64> = order.iter().map(|place| place.next_number()).collect();
        assert_eq!(next, [0, 0, 1, 2, 2, 3]);
    }
}
