//! Events that are kept as they are emitted, by topic, for clients that missed them.
//!
//! All of it is memory of this server. A position tells which run of the server it is of, and by it what
//! was lost is told: a client learns that there is a gap, and never takes a part for the whole.
//!
//! In a cluster what is kept goes through the stream, and each server keeps all of it by the ids of the entries: so
//! they have the same events at the same positions. What is kept while Redis is away stands behind the rest, at
//! positions that only this server knows, until it was read back.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use crate::{clock, cluster::EntryId, config, message::Message};

/// Which run positions are of that all servers of a cluster have in common.
const COMMON: u64 = 0;

/// What an event takes beside its texts, in bytes.
const ENTRY_BYTES: usize = 200;

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

/// A place in the history: behind the event with this number. Displays as what a client gets to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    epoch: u64,
    number: u64,
}

/// An event that was kept.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    number: u64,
    /// When it was emitted.
    pub at: SystemTime,
    /// Its name.
    pub event: Arc<str>,
    /// Its arguments.
    pub message: Message,
}

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

#[derive(Default)]
struct Topics {
    by_name: HashMap<Arc<str>, Topic>,
    /// By their last events, those that nobody emitted to for longest first.
    by_age: BTreeMap<u64, Arc<str>>,
    /// The number of the last event, of whatever topic.
    last: u64,
    /// The number of the last event that went with its whole topic: a topic that begins again cannot tell
    /// whether that was its own.
    forgotten: u64,
    bytes: usize,
    /// What a server of a cluster keeps and has not read back, in order.
    ahead: VecDeque<Ahead>,
}

/// An event that is not in the stream yet.
struct Ahead {
    id: u64,
    topic: Box<str>,
    entry: Entry,
}

#[derive(Default)]
struct Topic {
    entries: VecDeque<Entry>,
    /// The number of the last event that is not there any more.
    lost: u64,
    last: u64,
    bytes: usize,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.event.len() + self.message.size()
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

    fn expire(&mut self, now: SystemTime, max_age: Duration) -> usize {
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
        self.add(&mut topics, self.now(), &kept.topic, entry);
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
        self.add(&mut topics, now, topic, entry);
    }

    fn add(&self, topics: &mut Topics, now: SystemTime, topic: &str, entry: Entry) {
        topics.last = entry.number;
        let name = match topics.by_name.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None => Arc::from(topic),
        };
        let kept = topics.by_name.entry(name.clone()).or_insert_with(|| Topic {
            lost: topics.forgotten,
            ..Topic::default()
        });
        topics.by_age.remove(&kept.last);
        topics.by_age.insert(entry.number, name);
        kept.last = entry.number;
        kept.bytes += entry.bytes();
        topics.bytes += entry.bytes();
        kept.entries.push_back(entry);
        topics.bytes -= kept.expire(now, self.bounds.max_age);
        while kept.entries.len() > self.bounds.events
            || kept.bytes > self.bounds.topic_bytes.as_usize()
        {
            topics.bytes -= kept.forget_oldest();
        }
        while topics.by_name.len() > self.bounds.topics
            || topics.bytes > self.bounds.bytes.as_usize()
        {
            topics.forget_oldest();
        }
    }

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

    fn since_at(
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
        let ahead: Vec<_> = topics
            .ahead
            .iter()
            .map(|it| (it.entry.number, &*it.topic == topic))
            .collect();
        let is_among = |position: &Position| {
            position.epoch == self.run && ahead.iter().any(|(number, _)| *number == position.number)
        };
        let behind = position.filter(is_among);
        let first = behind.map_or(0, |position| position.number);
        let waiting = ahead
            .iter()
            .filter(|(number, its)| *its && *number > first)
            .count();
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
        let its = topics
            .ahead
            .iter()
            .filter(|it| &*it.topic == topic && it.entry.number > first);
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
        let first = match (position, behind) {
            (None, _) => kept.entries.len().saturating_sub(limit),
            (Some(_), behind) => {
                let behind = behind.unwrap_or(0);
                kept.entries.partition_point(|entry| entry.number <= behind)
            }
        };
        let lost = match first.checked_sub(1).filter(|_| position.is_none()) {
            Some(before) => kept.entries[before].number,
            None => kept.lost,
        };
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

impl Topics {
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

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.number)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, number) = text.split_once('-').ok_or(())?;
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{message::Arguments, units::Size};

    fn history(topics: usize, events: usize, topic_bytes: u64, bytes: u64) -> History {
        History::new(config::History {
            topics,
            events,
            topic_bytes: Size::new(topic_bytes),
            bytes: Size::new(bytes),
            max_age: Duration::from_secs(60),
        })
    }

    fn keep(history: &History, topic: &str, number: usize) {
        let arguments = Arguments::parse(format!("[{number}]")).unwrap();
        history.keep(topic, "e", &Message::text(arguments));
    }

    /// The numbers in a page, its gap and whether there are more.
    fn read(page: &Page) -> (Vec<usize>, bool, bool) {
        let number = |(_, entry): &(Position, Entry)| {
            let text = entry.message.arguments.as_str();
            text.trim_matches(['[', ']']).parse().unwrap()
        };
        (
            page.entries.iter().map(number).collect(),
            page.gap,
            page.more,
        )
    }

    #[test]
    fn events_are_read_from_a_position_on() {
        let history = history(9, 9, 1 << 20, 1 << 20);
        let all = |topic, position, limit| history.since(topic, position, limit, |_| true);
        let nothing = all("a", None, 9);
        assert_eq!(read(&nothing), (vec![], false, false));
        for number in 0..5 {
            keep(&history, "a", number);
            keep(&history, "b", number + 10);
        }
        let page = all("a", None, 2);
        assert_eq!(read(&page), (vec![3, 4], true, false), "the last of them");
        assert_eq!(
            read(&all("a", Some(page.position), 2)),
            (vec![], false, false)
        );
        let page = all("a", Some(nothing.position), 2);
        assert_eq!(read(&page), (vec![0, 1], false, true));
        let page = all("a", Some(page.position), 9);
        assert_eq!(read(&page), (vec![2, 3, 4], false, false));
        assert_eq!(read(&all("a", None, 0)), (vec![], true, false));
        assert_eq!(read(&all("b", None, 9)).0, [10, 11, 12, 13, 14]);
        let page = history.since("a", Some(nothing.position), 9, |_| false);
        assert_eq!(
            (read(&page), page.position),
            ((vec![], false, true), nothing.position)
        );
    }

    #[test]
    fn what_is_not_there_any_more_is_told() {
        let history = history(2, 3, 1 << 20, 1 << 20);
        let all = |topic, position| history.since(topic, position, 9, |_| true);
        keep(&history, "a", 0);
        let first = all("a", None).position;
        for number in 1..4 {
            keep(&history, "a", number);
        }
        assert_eq!(read(&all("a", Some(first))), (vec![1, 2, 3], false, false));
        keep(&history, "a", 4);
        assert_eq!(read(&all("a", Some(first))), (vec![2, 3, 4], true, false));
        assert_eq!(read(&all("a", None)), (vec![2, 3, 4], true, false));
        let here = all("a", None).position;
        keep(&history, "b", 0);
        keep(&history, "c", 0);
        assert_eq!(
            read(&all("a", Some(first))),
            (vec![], true, false),
            "a topic too many"
        );
        assert_eq!(
            read(&all("a", Some(here))),
            (vec![], false, false),
            "it had all"
        );
        keep(&history, "a", 5);
        assert_eq!(read(&all("a", Some(first))), (vec![5], true, false));
        assert_eq!(read(&all("a", Some(here))), (vec![5], false, false));
    }

    #[test]
    fn a_position_of_another_run_is_a_gap() {
        let (former, history) = (
            history(9, 9, 1 << 20, 1 << 20),
            history(9, 9, 1 << 20, 1 << 20),
        );
        keep(&former, "a", 0);
        let position = former.since("a", None, 9, |_| true).position;
        assert_eq!(
            read(&history.since("a", Some(position), 9, |_| true)),
            (vec![], true, false)
        );
        keep(&history, "a", 1);
        assert_eq!(
            read(&history.since("a", Some(position), 9, |_| true)),
            (vec![1], true, false)
        );
        let made_up = Position {
            number: 77,
            ..history.since("a", None, 9, |_| true).position
        };
        assert!(history.since("a", Some(made_up), 9, |_| true).gap);
    }

    #[test]
    fn what_a_server_of_a_cluster_has_not_read_is_a_gap() {
        let history = History::of_cluster(config::History::default());
        let keep = |id, text: &str| {
            let id = EntryId::from_number(id);
            history.has_read(id);
            let arguments = Arguments::parse(format!("[{text}]")).unwrap();
            let kept = Kept {
                id: id.number(),
                topic: "a".to_owned(),
                at: id.time(),
                event: "e".to_owned(),
                message: Message::text(arguments),
            };
            history.keep_entry(id, kept);
        };
        let since = |position| history.since("a", position, 9, |_| true);
        history.redis_shows(EntryId::from_number(20).time());
        history.begin(EntryId::from_number(10));
        assert!(since(None).gap, "of what was before it nobody knows");
        keep(10, "1");
        keep(10, "1");
        let first = since(None).position;
        assert_eq!(
            read(&since(Some(Position { number: 9, ..first }))),
            (vec![1], false, false)
        );
        let ahead = Position {
            number: 99,
            ..first
        };
        let page = since(Some(ahead));
        assert_eq!(
            (read(&page), page.position),
            ((vec![], false, false), ahead)
        );
        history.has_missed();
        assert!(since(Some(first)).gap);
        keep(20, "2");
        assert_eq!(read(&since(Some(first))), (vec![2], true, false));
        let second = since(None).position;
        assert_eq!(read(&since(Some(second))), (vec![], false, false));
    }

    #[test]
    fn old_events_go() {
        let history = history(9, 9, 1 << 20, 1 << 20);
        let begin = history.since("a", None, 9, |_| true).position;
        keep(&history, "a", 0);
        let at = SystemTime::now() + Duration::from_secs(30);
        history.keep_at(
            at,
            "a",
            "e",
            &Message::text(Arguments::parse("[1]".into()).unwrap()),
        );
        let page = history.since_at(at + Duration::from_secs(31), "a", Some(begin), 9, |_| true);
        assert_eq!(read(&page), (vec![1], true, false));
    }

    #[test]
    fn a_position_is_what_was_displayed() {
        let position = Position {
            epoch: 7,
            number: 12,
        };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in [
            "",
            "-",
            "7",
            "7-",
            "g-1",
            "7-1-1",
            "7--1",
            "11111111111111111-1",
        ] {
            assert_eq!(text.parse::<Position>(), Err(()), "{text}");
        }
    }

    proptest! {
        /// Whatever is kept and read: bounds hold, and who follows by positions has all that was kept, or is
        /// told of a gap.
        #[test]
        fn bounds_hold_and_no_loss_goes_untold(
            steps in proptest::collection::vec((0..4_usize, 0..3_usize, 1..5_usize), 1..200),
            topics in 1..4_usize,
            events in 1..6_usize,
            bytes in 300..3000_u64,
        ) {
            let history = history(topics, events, bytes, bytes);
            let begin = history.since("", None, 9, |_| true).position;
            let mut followers = [begin; 3];
            let mut kept: [Vec<usize>; 3] = Default::default();
            for (number, (step, topic, limit)) in steps.into_iter().enumerate() {
                let name = ["a", "b", "c"][topic];
                if step < 3 {
                    keep(&history, name, number);
                    kept[topic].push(number);
                } else {
                    let page = history.since(name, Some(followers[topic]), limit, |_| true);
                    let (numbers, gap, more) = read(&page);
                    prop_assert!(numbers.len() <= limit);
                    prop_assert!(kept[topic].ends_with(&numbers) || more);
                    if !gap {
                        prop_assert!(kept[topic].starts_with(&numbers));
                        prop_assert!(more || numbers.len() == kept[topic].len());
                    }
                    match numbers.last() {
                        Some(last) => kept[topic].retain(|number| number > last),
                        None if gap => kept[topic].clear(),
                        None => prop_assert!(kept[topic].is_empty()),
                    }
                    followers[topic] = page.position;
                }
                let held = history.topics.lock();
                prop_assert!(held.by_name.len() <= topics && held.bytes as u64 <= bytes);
                prop_assert!(held.by_name.values().all(|topic| topic.entries.len() <= events));
                let sum: usize = held.by_name.values().map(|topic| topic.bytes).sum();
                prop_assert_eq!(sum, held.bytes);
                prop_assert_eq!(held.by_name.len(), held.by_age.len());
            }
        }
    }
}
