//! What is kept of each topic, and what is forgotten first.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{config, message::Message};

/// What an event takes beside its texts, in bytes.
const ENTRY_BYTES: usize = 200;

#[derive(Default)]
pub(super) struct Topics {
    pub(super) by_name: HashMap<Arc<str>, Topic>,
    /// By their last events, those that nobody emitted to for longest first.
    pub(super) by_age: BTreeMap<u64, Arc<str>>,
    /// The number of the last event, of whatever topic.
    pub(super) last: u64,
    /// The number of the last event that went with its whole topic: a topic that begins again cannot tell
    /// whether that was its own.
    pub(super) forgotten: u64,
    pub(super) bytes: usize,
    /// What a server of a cluster keeps and has not read back, in order.
    pub(super) ahead: VecDeque<Ahead>,
}

#[derive(Default)]
pub(super) struct Topic {
    pub(super) entries: VecDeque<Entry>,
    /// The number of the last event that is not there any more.
    pub(super) lost: u64,
    last: u64,
    pub(super) bytes: usize,
}

/// An event that was kept.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(super) number: u64,
    /// When it was emitted.
    pub at: SystemTime,
    /// Its name.
    pub event: Arc<str>,
    /// Its arguments.
    pub message: Message,
}

/// An event that is not in the stream yet.
pub(super) struct Ahead {
    pub(super) id: u64,
    pub(super) topic: Box<str>,
    pub(super) entry: Entry,
}

impl Topics {
    /// Adds an event that has come last, and forgets what there is too much of then.
    pub(super) fn add(
        &mut self,
        bounds: &config::History,
        now: SystemTime,
        topic: &str,
        entry: Entry,
    ) {
        self.last = entry.number;
        let name = match self.by_name.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None => Arc::from(topic),
        };
        let kept = self.by_name.entry(name.clone()).or_insert_with(|| Topic {
            lost: self.forgotten,
            ..Topic::default()
        });
        self.by_age.remove(&kept.last);
        self.by_age.insert(entry.number, name);
        kept.last = entry.number;
        kept.bytes += entry.bytes();
        self.bytes += entry.bytes();
        kept.entries.push_back(entry);
        self.bytes -= kept.expire(now, bounds.max_age);
        while kept.entries.len() > bounds.events || kept.bytes > bounds.topic_bytes.as_usize() {
            self.bytes -= kept.forget_oldest();
        }
        while self.by_name.len() > bounds.topics || self.bytes > bounds.bytes.as_usize() {
            self.forget_oldest();
        }
    }

    /// Forgets the topic that nobody emitted to for longest, or of the only one its oldest event.
    fn forget_oldest(&mut self) {
        if self.by_age.len() == 1
            && let Some(topic) = self.by_name.values_mut().next()
            && topic.entries.len() > 1
        {
            self.bytes -= topic.forget_oldest();
            return;
        }
        let Some((last, name)) = self.by_age.pop_first() else {
            return;
        };
        self.forgotten = self.forgotten.max(last);
        if let Some(topic) = self.by_name.remove(&name) {
            self.bytes -= topic.bytes;
        }
    }
}

impl Topic {
    /// Forgets its oldest event; returns how many bytes that was.
    fn forget_oldest(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else {
            return 0;
        };
        self.lost = entry.number;
        self.bytes -= entry.bytes();
        entry.bytes()
    }

    /// Forgets what is too old; returns how many bytes that was.
    pub(super) fn expire(&mut self, now: SystemTime, max_age: Duration) -> usize {
        let is_old = |entry: &Entry| {
            let age = now.duration_since(entry.at);
            age.is_ok_and(|age| age > max_age)
        };
        let mut bytes = 0;
        while self.entries.front().is_some_and(is_old) {
            bytes += self.forget_oldest();
        }
        bytes
    }

    /// Where a page of it begins, among its events, and the number of the last event before that which the
    /// page does not have: one of those behind a number, or without one of the last `limit`.
    pub(super) fn page_start(&self, behind: Option<u64>, limit: usize) -> (usize, u64) {
        match behind {
            Some(behind) => {
                let is_before = |entry: &Entry| entry.number <= behind;
                (self.entries.partition_point(is_before), self.lost)
            }
            None => {
                let first = self.entries.len().saturating_sub(limit);
                let lost = match first.checked_sub(1) {
                    Some(before) => self.entries[before].number,
                    None => self.lost,
                };
                (first, lost)
            }
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.event.len() + self.message.size()
    }
}
