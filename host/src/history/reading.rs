//! Reading events of a topic.

use std::{sync::atomic::Ordering, time::SystemTime};

use super::{
    History,
    position::{COMMON, Position},
    topics::{Ahead, Entry, Topics},
};

/// Events of a topic, the oldest first.
pub(crate) struct Page {
    /// Each with its place.
    pub entries: Vec<(Position, Entry)>,
    /// Where to go on.
    pub position: Position,
    /// Whether events before the first of them, and behind what was asked for, are not there any more.
    pub gap: bool,
    /// Whether there are more behind the last of them.
    pub more: bool,
}

impl History {
    /// At most `limit` events of a topic: those behind a position, or without one the last. The `take`
    /// says of each whether there is room for it.
    pub(crate) fn since(
        &self,
        topic: &str,
        position: Option<Position>,
        limit: usize,
        take: impl FnMut(&Entry) -> bool,
    ) -> Page {
        self.since_at(self.now(), topic, position, limit, take)
    }

    pub(super) fn since_at(
        &self,
        now: SystemTime,
        topic: &str,
        position: Option<Position>,
        limit: usize,
        mut take: impl FnMut(&Entry) -> bool,
    ) -> Page {
        let mut topics = self.topics.lock();
        let topics = &mut *topics;
        if topics.ahead.is_empty() {
            return self.page(topics, now, topic, position, limit, &mut take);
        }
        let is_among = |position: &Position| {
            let mut ahead = topics.ahead.iter();
            position.epoch == self.run && ahead.any(|it| it.entry.number == position.number)
        };
        let behind = position.filter(is_among);
        let first = behind.map_or(0, |position| position.number);
        let is_its = |it: &&Ahead| &*it.topic == topic && it.entry.number > first;
        let waiting = topics.ahead.iter().filter(is_its).count();
        let mut page = match (behind, position) {
            (Some(position), _) => Page::nothing(position),
            (None, None) => {
                let rest = limit.saturating_sub(waiting);
                self.page(topics, now, topic, None, rest, &mut take)
            }
            (None, position) => self.page(topics, now, topic, position, limit, &mut take),
        };
        let skipped = match position {
            None => waiting.saturating_sub(limit),
            Some(_) => 0,
        };
        let its = topics.ahead.iter().filter(is_its);
        for Ahead { entry, .. } in its.skip(skipped) {
            if page.more || page.entries.len() == limit || !take(entry) {
                page.more = true;
                break;
            }
            page.position = Position {
                epoch: self.run,
                number: entry.number,
            };
            page.entries.push((page.position, entry.clone()));
        }
        page
    }

    /// A page of what has its place.
    fn page(
        &self,
        topics: &mut Topics,
        now: SystemTime,
        topic: &str,
        position: Option<Position>,
        limit: usize,
        take: &mut impl FnMut(&Entry) -> bool,
    ) -> Page {
        // What another run of the server kept is gone: all of it is behind such a position. Another server of a cluster
        // may have read further.
        let is_common = self.epoch == COMMON;
        let is_of_this_run = |position: &Position| {
            position.epoch == self.epoch && (is_common || position.number <= topics.last)
        };
        let behind = position
            .filter(is_of_this_run)
            .map(|position| position.number);
        let is_foreign = position.is_some() && behind.is_none();
        let has_missed = is_foreign || self.has_missed.load(Ordering::Relaxed);
        let at = |number| Position {
            epoch: self.epoch,
            number,
        };
        let here = at(topics.last.max(behind.unwrap_or(0)));
        let Some(kept) = topics.by_name.get_mut(topic) else {
            let begin = behind.unwrap_or(0);
            return Page {
                entries: Vec::new(),
                position: here,
                gap: has_missed || begin < topics.forgotten,
                more: false,
            };
        };
        topics.bytes -= kept.expire(now, self.bounds.max_age);
        let from = position.map(|_| behind.unwrap_or(0));
        let (first, lost) = kept.page_start(from, limit);
        let mut entries = Vec::new();
        let mut more = false;
        for entry in kept.entries.range(first..) {
            if entries.len() == limit || !take(entry) {
                more = true;
                break;
            }
            entries.push((at(entry.number), entry.clone()));
        }
        let last = entries.last().map(|(position, _)| *position);
        let begin = at(behind.unwrap_or(lost));
        Page {
            position: match more {
                true => last.unwrap_or(begin),
                false => here,
            },
            gap: has_missed || lost > behind.unwrap_or(0),
            entries,
            more,
        }
    }
}

impl Page {
    /// Nothing behind a position.
    fn nothing(position: Position) -> Self {
        Self {
            entries: Vec::new(),
            position,
            gap: false,
            more: false,
        }
    }
}
