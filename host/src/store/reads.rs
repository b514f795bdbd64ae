//! What a call reads of what others have committed: noted while it is recorded, and told again in a replay.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Bound,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{CommitError, Key, Value, transaction::Range};
use crate::config;

/// What a call reads, as it is noted.
#[derive(Default)]
pub(crate) struct Reads(Mutex<Noted>);

/// What a call has read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Noted {
    /// What stood under each key, whether its time was over or not.
    pub keys: BTreeMap<Key, Option<Value>>,
    /// The ranges, whose keys are among those.
    pub ranges: Vec<NotedRange>,
    /// What it wrote to.
    pub written: BTreeSet<Key>,
}

/// Keys that were read together.
#[derive(Debug, Clone)]
pub(crate) struct NotedRange {
    /// What they begin with.
    pub prefix: Key,
    /// The one before the first; none: from the first on.
    pub after: Option<Key>,
    /// The last one; none: to the end.
    pub last: Option<Key>,
}

impl Reads {
    /// All of them.
    pub(crate) fn take(&self) -> Noted {
        mem::take(&mut self.0.lock())
    }

    /// What it wrote to.
    pub(super) fn written(&self) -> BTreeSet<Key> {
        self.0.lock().written.clone()
    }

    pub(super) fn wrote(&self, key: &Key) {
        self.0.lock().written.insert(key.clone());
    }

    pub(super) fn read(&self, key: &Key, value: Option<&Value>) {
        let mut noted = self.0.lock();
        // What it read first is what stood there for the whole call.
        noted
            .keys
            .entry(key.clone())
            .or_insert_with(|| value.cloned());
    }

    pub(super) fn read_range(&self, range: &Range, found: &BTreeMap<Key, Value>) {
        let mut noted = self.0.lock();
        for (key, value) in found {
            noted
                .keys
                .entry(key.clone())
                .or_insert_with(|| Some(value.clone()));
        }
        noted.ranges.push(NotedRange {
            prefix: range.prefix.clone(),
            after: range.after.clone(),
            last: range.last.clone(),
        });
    }
}

impl NotedRange {
    /// Whether what stands under a key, or that nothing does, was seen.
    fn covers(&self, key: &str) -> bool {
        let is_behind = self.after.as_ref().is_none_or(|after| key > after.as_str());
        let is_before = self.last.as_ref().is_none_or(|last| key <= last.as_str());
        key.starts_with(self.prefix.as_str()) && is_behind && is_before
    }
}

/// A store of which nothing is there but what a call has read.
pub struct Recorded {
    config: config::Store,
    noted: Mutex<Noted>,
    missing: Mutex<Vec<String>>,
}

impl Recorded {
    pub(crate) fn new(config: config::Store, noted: Noted) -> Arc<Self> {
        Arc::new(Self {
            config,
            noted: Mutex::new(noted),
            missing: Mutex::default(),
        })
    }

    /// What the next call of the same transaction has read is there as well.
    pub(crate) fn extend(&self, noted: Noted) {
        let mut all = self.noted.lock();
        all.keys.extend(noted.keys);
        all.ranges.extend(noted.ranges);
    }

    /// What was asked and is not there.
    pub(crate) fn take_missing(&self) -> Vec<String> {
        mem::take(&mut self.missing.lock())
    }

    pub(super) fn config(&self) -> &config::Store {
        &self.config
    }

    /// Nothing is committed to it.
    pub(super) fn refusal() -> CommitError {
        CommitError::Unavailable("it is a record".into())
    }

    pub(super) fn read(&self, key: &Key) -> Result<Option<Value>, CommitError> {
        let seen = |range: &NotedRange| range.covers(key.as_str());
        let noted = self.noted.lock();
        match noted.keys.get(key) {
            Some(value) => Ok(value.clone()),
            None if noted.ranges.iter().any(seen) => Ok(None),
            None => Err(self.lacks(format!("store.get {} {:?}", key.bucket(), key.name()))),
        }
    }

    /// The first keys of a range, so many at most.
    pub(super) fn read_range(
        &self,
        range: &Range,
        most_keys: usize,
    ) -> Result<BTreeMap<Key, Value>, CommitError> {
        let from = (range.from(), Bound::Unbounded);
        let noted = self.noted.lock();
        let keys = noted.keys.range::<str, _>(from);
        let keys = keys.take_while(|(key, _)| range.covers(key.as_str()));
        let found = keys.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let found: BTreeMap<Key, Value> = found.take(most_keys).collect();
        let is_full = found.len() == most_keys;
        let end = found.keys().next_back().filter(|_| is_full);
        let begins = |noted: &NotedRange| {
            let from_start = noted.after.is_none() || noted.after <= range.after;
            range.prefix.as_str().starts_with(noted.prefix.as_str()) && from_start
        };
        let reaches = |noted: &NotedRange| match (&noted.last, end) {
            (None, _) => true,
            (Some(last), Some(end)) => end <= last,
            (Some(_), None) => false,
        };
        let mut ranges = noted.ranges.iter();
        match ranges.any(|noted| begins(noted) && reaches(noted)) {
            true => Ok(found),
            false => Err(self.lacks(format!(
                "store.scan {} {:?} after {:?}",
                range.prefix.bucket(),
                range.prefix.name(),
                range.after.as_ref().map_or("", Key::name)
            ))),
        }
    }

    fn lacks(&self, what: String) -> CommitError {
        self.missing.lock().push(what);
        CommitError::Unavailable("the record does not have what stands there".into())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::{Bucket, Most, Open, Transaction};

    fn value(text: &str) -> Value {
        Value {
            bytes: text.as_bytes().into(),
            expires: None,
        }
    }

    fn key(name: &str) -> Key {
        Key::new(&Bucket::of_plugin("a"), name).unwrap()
    }

    fn recorded(keys: &[(&str, Option<&str>)], ranges: &[(&str, Option<&str>)]) -> Arc<Recorded> {
        let bucket = Bucket::of_plugin("a");
        let noted = Noted {
            keys: keys
                .iter()
                .map(|(name, text)| (key(name), text.map(value)))
                .collect(),
            ranges: ranges
                .iter()
                .map(|(prefix, last)| NotedRange {
                    prefix: Key::prefix(&bucket, prefix).unwrap(),
                    after: None,
                    last: last.map(key),
                })
                .collect(),
            written: BTreeSet::new(),
        };
        Recorded::new(config::Store::default(), noted)
    }

    fn scanned(
        transaction: &mut Transaction,
        prefix: &str,
        keys: usize,
    ) -> Result<Vec<String>, String> {
        let most = Most { keys, bytes: 1000 };
        let bucket = Bucket::of_plugin("a");
        let page = transaction.scan(&bucket, prefix, None, most).now_or_never();
        let page = page.unwrap().map_err(|error| error.to_string())?;
        Ok(page.entries.into_iter().map(|entry| entry.key).collect())
    }

    #[test]
    fn what_was_read_is_there_under_what_the_call_writes() {
        let store = recorded(&[("n", Some("4")), ("gone", None)], &[]);
        let mut transaction = Transaction::new(Open::Recorded(store.clone()));
        transaction.add(key("n"), 2).unwrap();
        let mut get = |name| transaction.get(&key(name)).now_or_never().unwrap();
        assert_eq!(get("n").unwrap(), Some(value("6")));
        assert_eq!(get("gone").unwrap(), None);
        assert!(get("other").is_err());
        assert_eq!(store.take_missing(), ["store.get plugin/a \"other\""]);
    }

    #[test]
    fn a_range_is_there_as_far_as_it_was_read() {
        let keys = [("a1", Some("1")), ("a2", Some("1")), ("a3", Some("1"))];
        let store = recorded(&keys, &[("a", Some("a3"))]);
        let mut transaction = Transaction::new(Open::Recorded(store.clone()));
        assert_eq!(scanned(&mut transaction, "a", 2).unwrap(), ["a1", "a2"]);
        assert_eq!(scanned(&mut transaction, "a", 3).unwrap().len(), 3);
        assert!(scanned(&mut transaction, "a", 4).is_err());
        assert!(scanned(&mut transaction, "b", 1).is_err());
        transaction.delete(key("a1"));
        transaction.set(key("a2x"), value("1"));
        assert_eq!(scanned(&mut transaction, "a", 2).unwrap(), ["a2", "a2x"]);
    }
}
