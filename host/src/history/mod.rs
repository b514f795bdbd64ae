//! Events that are kept as they are emitted, by topic, for clients that missed them.
//!
//! All of it is memory of this server. A position tells which run of the server it is of, and by it what
//! was lost is told: a client learns that there is a gap, and never takes a part for the whole.
//!
//! In a cluster what is kept goes through the stream, and each server keeps all of it by the ids of the entries: so
//! they have the same events at the same positions. What is kept while Redis is away stands behind the rest, at
//! positions that only this server knows, until it was read back.

mod position;
mod reading;
mod topics;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Instant, SystemTime},
};

use parking_lot::Mutex;

use self::{
    position::COMMON,
    topics::{Ahead, Topics},
};
pub(crate) use self::{position::Position, topics::Entry};
use crate::{clock, cluster::EntryId, config, message::Message};

/// Whether a topic may be called so.
pub(crate) fn is_topic(name: &str) -> bool {
    (1..=256).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The events of all topics.
pub(crate) struct History {
    bounds: config::History,
    /// Which run of the server it is.
    run: u64,
    /// What positions say of that.
    epoch: u64,
    /// Entries of the stream are missing before the next one that is read.
    has_missed: AtomicBool,
    /// What Redis' clock showed, and when that was: servers of a cluster go by that one, as theirs may differ.
    shown: Mutex<Option<(SystemTime, Instant)>>,
    topics: Mutex<Topics>,
}

/// An event that all servers of a cluster keep.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Tells it from others.
    pub id: u64,
    /// Where it is kept.
    pub topic: String,
    /// When it was emitted.
    pub at: SystemTime,
    /// Its name.
    pub event: String,
    /// Its arguments.
    pub message: Message,
}

impl History {
    /// Nothing yet.
    pub(crate) fn new(bounds: config::History) -> Self {
        let run = rand::random_range(COMMON + 1..=u64::MAX);
        Self {
            bounds,
            run,
            epoch: run,
            has_missed: AtomicBool::new(false),
            shown: Mutex::default(),
            topics: Mutex::default(),
        }
    }

    /// The same of a server of a cluster.
    pub(crate) fn of_cluster(bounds: config::History) -> Self {
        Self {
            epoch: COMMON,
            ..Self::new(bounds)
        }
    }

    /// Redis' clock shows this.
    pub(crate) fn redis_shows(&self, time: SystemTime) {
        *self.shown.lock() = Some((time, Instant::now()));
    }

    /// The time by which events are kept.
    pub(crate) fn now(&self) -> SystemTime {
        let shown = *self.shown.lock();
        shown.map_or_else(clock::system, |(time, at)| time + at.elapsed())
    }

    /// All entries of the stream from this one on follow.
    pub(crate) fn begin(&self, first: EntryId) {
        let mut topics = self.topics.lock();
        topics.forgotten = topics.forgotten.max(first.number().saturating_sub(1));
        topics.last = topics.last.max(topics.forgotten);
    }

    /// Entries are missing before the next one.
    pub(crate) fn has_missed(&self) {
        self.has_missed.store(true, Ordering::Relaxed);
    }

    /// This entry is the next one. If some are missing before it, nothing from before them is known any more.
    pub(crate) fn has_read(&self, id: EntryId) {
        if self.has_missed.swap(false, Ordering::Relaxed) {
            let mut topics = self.topics.lock();
            let ahead = std::mem::take(&mut topics.ahead);
            *topics = Topics {
                ahead,
                ..Topics::default()
            };
            drop(topics);
            self.begin(id);
        }
    }

    /// Keeps what an entry of the stream says.
    pub(crate) fn keep_entry(&self, id: EntryId, kept: Kept) {
        let mut topics = self.topics.lock();
        topics.ahead.retain(|ahead| ahead.id != kept.id);
        if id.number() <= topics.last {
            return;
        }
        let entry = Entry {
            number: id.number(),
            // Nothing is emitted after it has come in.
            at: kept.at.min(id.time()),
            event: kept.event.into(),
            message: kept.message,
        };
        topics.add(&self.bounds, self.now(), &kept.topic, entry);
    }

    /// Keeps what is not in the stream yet.
    pub(crate) fn keep_ahead(&self, kept: Kept) {
        let mut topics = self.topics.lock();
        let last = topics.ahead.back().map_or(0, |ahead| ahead.entry.number);
        topics.ahead.push_back(Ahead {
            id: kept.id,
            topic: kept.topic.into(),
            entry: Entry {
                number: last + 1,
                at: kept.at,
                event: kept.event.into(),
                message: kept.message,
            },
        });
    }

    /// Keeps an event.
    pub(crate) fn keep(&self, topic: &str, event: &str, message: &Message) {
        self.keep_at(clock::system(), topic, event, message);
    }

    fn keep_at(&self, now: SystemTime, topic: &str, event: &str, message: &Message) {
        let mut topics = self.topics.lock();
        let entry = Entry {
            number: topics.last + 1,
            at: now,
            event: event.into(),
            message: message.clone(),
        };
        topics.add(&self.bounds, now, topic, entry);
    }
}

#[cfg(test)]
mod tests;
