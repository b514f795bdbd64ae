//! Lists of what there is, for backends: sockets, users and rooms of a namespace, a page at a time.
//!
//! Everything has a key (a socket its public id, a user its id, a room its name), and pages go through the keys in the
//! order of their bytes. A page begins behind a key and not at a number, so nothing that stays is told twice or left
//! out, whatever comes and goes meanwhile. In a cluster each server tells its part of a page, and the parts are merged.

mod everywhere;
mod here;
mod room_filter;
mod row;

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};

pub(crate) use everywhere::Listed;
pub(crate) use room_filter::{RoomFilter, RoomKind};
pub(crate) use row::{Person, Room, Row, Socket, User};

/// What a page is bounded by, beside the number of its rows: what these take as JSON, about. One row is told always.
const MAX_BYTES: usize = 1 << 20;

/// A page that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// Of what.
    pub of: Of,
    /// It begins behind this key; at the beginning if there is none.
    pub after: Option<String>,
    /// How many rows it has at most, 1 or more.
    pub limit: usize,
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Of {
    /// The sockets of a selection, by public id.
    Sockets {
        /// Whether with what plugins keep with them.
        data: bool,
    },
    /// The users of a selection's sockets, by id.
    Users,
    /// Rooms with sockets in them, by name.
    Rooms(RoomFilter),
}

/// The beginning of what there is behind a page's `after`, in the order of the keys.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Part {
    pub rows: Vec<Row>,
    /// Whether there is more behind the last row.
    pub more: bool,
}

/// The rows with the smallest keys, of which there are as many as a page may have.
struct Smallest<'a> {
    page: &'a Page,
    rows: BTreeMap<String, Row>,
    more: bool,
}

impl<'a> Smallest<'a> {
    fn of(page: &'a Page) -> Self {
        Self {
            page,
            rows: BTreeMap::new(),
            more: false,
        }
    }

    /// Whether the page has room for what has this key.
    fn wants(&mut self, key: &str) -> bool {
        if self.page.after.as_deref().is_some_and(|after| key <= after) {
            return false;
        }
        let last = self.rows.last_key_value();
        let is_behind = self.is_full() && last.is_some_and(|(last, _)| &**last < key);
        self.more |= is_behind;
        !is_behind
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.page.limit
    }

    /// Takes a row, or adds it to the one with its key, if the page has room for it.
    fn add(&mut self, key: &str, row: impl FnOnce() -> Row) {
        if !self.wants(key) {
            return;
        }
        let is_full = self.is_full();
        match self.rows.entry(key.to_owned()) {
            Entry::Occupied(mut entry) => entry.get_mut().merge(row()),
            Entry::Vacant(entry) => {
                entry.insert(row());
                if is_full {
                    // What comes of its key later is behind the last one then, and passed over, too.
                    self.rows.pop_last();
                    self.more = true;
                }
            }
        }
    }

    fn finish(self) -> Part {
        let mut more = self.more;
        let (mut rows, mut bytes) = (Vec::with_capacity(self.rows.len()), 0);
        for row in self.rows.into_values() {
            bytes += row.size();
            if bytes > MAX_BYTES && !rows.is_empty() {
                more = true;
                break;
            }
            rows.push(row);
        }
        Part { rows, more }
    }
}

impl Part {
    /// One page of the parts of several servers.
    fn merged(parts: impl IntoIterator<Item = Self>, page: &Page) -> Self {
        let parts: Vec<_> = parts.into_iter().collect();
        // Behind the last row of a part that goes on, something may be missing.
        let open = parts.iter().filter(|part| part.more);
        let known = open.filter_map(|part| part.rows.last()).map(Row::key);
        let known = known.min().map(str::to_owned);
        let mut smallest = Smallest::of(page);
        for part in parts {
            smallest.more |= part.more;
            for row in part.rows {
                if known.as_deref().is_some_and(|known| row.key() > known) {
                    smallest.more = true;
                    continue;
                }
                let key = row.key().to_owned();
                smallest.add(&key, || row);
            }
        }
        smallest.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: Option<&str>, limit: usize) -> Page {
        Page {
            of: Of::Users,
            after: after.map(str::to_owned),
            limit,
        }
    }

    fn room(name: &str, sockets: usize) -> Row {
        let name = name.to_owned();
        Row::Room(Room { name, sockets })
    }

    fn part(rooms: &[(&str, usize)], page: &Page) -> Part {
        let mut smallest = Smallest::of(page);
        for (name, sockets) in rooms {
            smallest.add(name, || room(name, *sockets));
        }
        smallest.finish()
    }

    fn names(part: &Part) -> Vec<&str> {
        part.rows.iter().map(Row::key).collect()
    }

    #[test]
    fn a_page_has_the_smallest_keys_behind_the_last_one() {
        let all = [("d", 1), ("b", 1), ("a", 1), ("c", 1), ("b", 2)];
        let first = part(&all, &page(None, 2));
        assert_eq!((names(&first), first.more), (vec!["a", "b"], true));
        assert_eq!(first.rows[1], room("b", 3), "rows of one key are one");
        let second = part(&all, &page(Some("b"), 2));
        assert_eq!((names(&second), second.more), (vec!["c", "d"], false));
        assert_eq!(part(&all, &page(Some("d"), 2)), Part::default());
    }

    #[test]
    fn whatever_the_order_a_row_that_is_told_is_whole() {
        // "c" is there, is pushed out by "a" and "b", and comes again.
        let all = [("c", 1), ("b", 1), ("a", 1), ("c", 1)];
        assert_eq!(names(&part(&all, &page(None, 2))), ["a", "b"]);
        let rest = part(&all, &page(Some("b"), 2));
        assert_eq!(rest.rows, [room("c", 2)]);
    }

    #[test]
    fn a_page_is_bounded_in_bytes_and_has_one_row_at_least() {
        let long = "x".repeat(MAX_BYTES);
        let rooms = [("a", 1), ("b", 1), (&*long, 1)];
        let first = part(&rooms, &page(None, 10));
        assert_eq!((names(&first), first.more), (vec!["a", "b"], true));
        let second = part(&rooms, &page(Some("b"), 10));
        assert_eq!((second.rows.len(), second.more), (1, false));
    }

    #[test]
    fn parts_of_servers_are_one_page_and_nothing_is_passed_over() {
        let page = page(None, 3);
        let one = [("a", 1), ("c", 1), ("e", 1), ("f", 1)];
        let other = [("b", 1), ("c", 2), ("g", 1)];
        let merged = Part::merged([part(&one, &page), part(&other, &page)], &page);
        assert_eq!((names(&merged), merged.more), (vec!["a", "b", "c"], true));
        assert_eq!(merged.rows[2], room("c", 3));
        // The first server has told less than it might, so that what it has before "g" is not known.
        let cut = Part {
            rows: vec![room("a", 1)],
            more: true,
        };
        let merged = Part::merged([cut, part(&other, &page)], &page);
        assert_eq!((names(&merged), merged.more), (vec!["a"], true));
    }
}
