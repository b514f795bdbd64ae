//! Which broadcasts were for which rooms, so that a connection that comes back looks at its own only.

use std::collections::{HashMap, VecDeque};

use crate::transport::Selection;

/// What one name in a selection takes here, beside its text: its list, and its place in the table.
pub(super) const NAME_OVERHEAD: usize = 96;

/// The numbers of broadcasts by what they were for. Rooms and public ids are names alike; one that is
/// both finds the broadcasts of either.
#[derive(Default)]
pub(super) struct Index {
    /// Those for everyone, or for everyone but some.
    everyone: VecDeque<u64>,
    names: HashMap<Box<str>, VecDeque<u64>>,
}

impl Index {
    /// Adds a broadcast whose number is higher than all others.
    pub(super) fn add(&mut self, number: u64, to: &Selection) {
        if to.is_everyone() {
            self.everyone.push_back(number);
            return;
        }
        for name in to.rooms.iter().chain(&to.sockets) {
            match self.names.get_mut(&**name) {
                // A selection may hold a name twice.
                Some(numbers) if numbers.back() == Some(&number) => {}
                Some(numbers) => numbers.push_back(number),
                None => {
                    self.names.insert(name.as_str().into(), [number].into());
                }
            }
        }
    }

    /// Removes the broadcast whose number is lower than all others.
    pub(super) fn remove_oldest(&mut self, number: u64, to: &Selection) {
        if to.is_everyone() {
            self.everyone.pop_front();
            return;
        }
        for name in to.rooms.iter().chain(&to.sockets) {
            let Some(numbers) = self.names.get_mut(&**name) else {
                continue;
            };
            if numbers.front() == Some(&number) {
                numbers.pop_front();
            }
            if numbers.is_empty() {
                self.names.remove(&**name);
            }
        }
    }

    /// The first `most` broadcasts from `number` on that were for everyone or for one of `names`, in
    /// order. With fewer than `most` of them there are no more.
    pub(super) fn since<'a>(
        &self,
        number: u64,
        names: impl Iterator<Item = &'a str>,
        most: usize,
    ) -> Vec<u64> {
        let lists = names.filter_map(|name| self.names.get(name));
        let mut found = Vec::new();
        for numbers in lists.chain([&self.everyone]) {
            let skipped = numbers.partition_point(|other| *other < number);
            found.extend(numbers.iter().skip(skipped).take(most));
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(most);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(rooms: &[&str]) -> Selection {
        Selection {
            rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
            ..Selection::default()
        }
    }

    #[test]
    fn broadcasts_are_found_by_any_of_their_names_once() {
        let selections = [to(&["a", "b", "a"]), to(&[]), to(&["b"]), to(&["c"])];
        let mut index = Index::default();
        for (number, to) in (10..).step_by(5).zip(&selections) {
            index.add(number, to);
        }
        let since =
            |index: &Index, number, most| index.since(number, ["a", "b", "x"].into_iter(), most);
        assert_eq!(since(&index, 0, 9), [10, 15, 20]);
        assert_eq!(since(&index, 11, 9), [15, 20]);
        assert_eq!(since(&index, 0, 2), [10, 15]);
        for (number, to) in (10..).step_by(5).zip(&selections) {
            index.remove_oldest(number, to);
        }
        assert!(since(&index, 0, 9).is_empty());
        assert!(index.names.is_empty());
    }
}
