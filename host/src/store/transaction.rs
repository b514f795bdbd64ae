//! What a call reads and writes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use super::{Bucket, CommitError, InvalidKey, Key, Open, Value, recent::sum};
use crate::clock::now;

/// A call's reads and writes. Reads see its own writes; nobody else does before it is committed.
pub struct Transaction {
    store: Arc<Open>,
    /// The last commit when it read for the first time; none if it did not, or has ended.
    began: Option<u64>,
    reads: BTreeMap<Key, Read>,
    ranges: Vec<Range>,
    writes: BTreeMap<Key, Write>,
    /// What stood under the keys that it writes when it was about to commit, of those that it did not read.
    formers: HashMap<Key, Option<Value>>,
    /// Of the keys and values that it sets.
    set_bytes: u64,
}

#[derive(Clone)]
struct Read {
    /// The last commit when it was read.
    at: u64,
    /// What stands there, whether its time is over or not.
    value: Option<Value>,
    /// Whether it was there still. It is for the whole transaction, however long that takes.
    is_live: bool,
}

impl Read {
    fn live(&self) -> Option<Value> {
        self.value.clone().filter(|_| self.is_live)
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// It has this value.
    Set(Value),
    /// It is gone.
    Delete,
    /// Its number grows by so much.
    Add(i64),
}

/// A key without its bucket, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Value,
}

/// Keys that were read together.
#[derive(Debug, Clone)]
pub(super) struct Range {
    /// What they begin with.
    prefix: Key,
    /// The one before the first; none: from the first on.
    after: Option<Key>,
    /// The last one that was read; none: to the end.
    last: Option<Key>,
    /// The last commit when they were read.
    pub(super) at: u64,
}

impl Range {
    pub(super) fn from(&self) -> Bound<&str> {
        match &self.after {
            Some(after) if after > &self.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(self.prefix.as_str()),
        }
    }

    /// Whether a key that is not before the beginning is in it.
    pub(super) fn covers(&self, key: &str) -> bool {
        let is_last_or_before = |last: &Key| key <= last.as_str();
        key.starts_with(self.prefix.as_str()) && self.last.as_ref().is_none_or(is_last_or_before)
    }
}

impl Transaction {
    /// Nothing read or written yet.
    pub fn new(store: Arc<Open>) -> Self {
        Self {
            store,
            began: None,
            reads: BTreeMap::new(),
            ranges: Vec::new(),
            writes: BTreeMap::new(),
            formers: HashMap::new(),
            set_bytes: 0,
        }
    }

    /// The store that it is for.
    pub fn store(&self) -> &Arc<Open> {
        &self.store
    }

    /// A key's value, as this transaction sees it.
    pub fn get(&mut self, key: &Key) -> Result<Option<Value>, CommitError> {
        match self.writes.get(key) {
            Some(Write::Set(value)) => return Ok(Some(value.clone())),
            Some(Write::Delete) => return Ok(None),
            Some(Write::Add(_)) | None => {}
        }
        let value = self.read(key)?;
        let Some(Write::Add(delta)) = self.writes.get(key) else {
            return Ok(value);
        };
        added(key, value.as_ref(), *delta).map(Some)
    }

    /// A key's value as others have committed it.
    pub fn committed(&mut self, key: &Key) -> Result<Option<Value>, CommitError> {
        self.read(key)
    }

    /// So many keys at most that begin with `prefix`, behind `after`, in order of their bytes.
    pub fn scan(
        &mut self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, ScanError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let after = after.map(|after| Key::prefix(bucket, after)).transpose()?;
        let mut range = Range {
            prefix: Key::prefix(bucket, prefix)?,
            after,
            last: None,
            at: 0,
        };
        let mut found = self.read_range(&mut range, limit)?;
        let own = self
            .writes
            .range::<str, _>((range.from(), Bound::Unbounded));
        for (key, write) in own.take_while(|(key, _)| range.covers(key.as_str())) {
            match write {
                Write::Set(value) => _ = found.insert(key.clone(), value.clone()),
                Write::Delete => _ = found.remove(key),
                Write::Add(delta) => {
                    let sum = added(key, found.get(key), *delta)?;
                    found.insert(key.clone(), sum);
                }
            }
        }
        self.ranges.push(range);
        let entry = |(key, value): (Key, Value)| Entry {
            key: key.name().to_owned(),
            value,
        };
        Ok(found.into_iter().take(limit).map(entry).collect())
    }

    /// A key has this value from the commit on.
    pub fn set(&mut self, key: Key, value: Value) {
        self.write(key, Write::Set(value));
    }

    /// A key is gone from the commit on.
    pub fn delete(&mut self, key: Key) {
        self.write(key, Write::Delete);
    }

    fn write(&mut self, key: Key, write: Write) {
        let size = |write: &Write| match write {
            Write::Set(value) => (key.as_str().len() + value.bytes.len()) as u64,
            Write::Delete | Write::Add(_) => 0,
        };
        let less = self.writes.get(&key).map_or(0, size);
        self.set_bytes = self.set_bytes - less + size(&write);
        self.writes.insert(key, write);
    }

    /// How many bytes it sets, keys and values together.
    pub fn set_bytes(&self) -> u64 {
        self.set_bytes
    }

    /// A key's number grows by so much, whatever it is by then.
    pub fn add(&mut self, key: Key, delta: i64) -> Result<(), CommitError> {
        let write = match self.writes.get(&key) {
            None => Write::Add(delta),
            Some(Write::Add(former)) => match former.checked_add(delta) {
                Some(delta) => Write::Add(delta),
                None => {
                    return Err(CommitError::NoNumber {
                        key: key.name().to_owned(),
                        reason: "the sum is out of the range of 64 bits",
                    });
                }
            },
            Some(Write::Set(former)) => Write::Set(added(&key, Some(former), delta)?),
            Some(Write::Delete) => Write::Set(added(&key, None, delta)?),
        };
        self.write(key, write);
        Ok(())
    }

    /// A copy, for a call that goes on with it and may fail alone.
    pub fn fork(&self) -> Self {
        if let Some(began) = self.began {
            self.store.state.lock().recent.begin_at(began);
        }
        Self {
            store: self.store.clone(),
            began: self.began,
            reads: self.reads.clone(),
            ranges: self.ranges.clone(),
            writes: self.writes.clone(),
            formers: self.formers.clone(),
            set_bytes: self.set_bytes,
        }
    }

    /// It writes nothing after all. What it read has still to be as it was.
    pub fn forget_writes(&mut self) {
        self.writes.clear();
        self.set_bytes = 0;
    }

    /// What it writes.
    pub fn writes(&self) -> &BTreeMap<Key, Write> {
        &self.writes
    }

    /// The last commit when it began, if it has read anything.
    pub(super) fn began(&self) -> Option<u64> {
        self.began
    }

    pub(super) fn take_began(&mut self) -> Option<u64> {
        self.began.take()
    }

    /// The keys that it read one by one, each with the last commit at that time.
    pub(super) fn reads(&self) -> impl Iterator<Item = (&Key, u64)> {
        self.reads.iter().map(|(key, read)| (key, read.at))
    }

    pub(super) fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// What stood under a key that it writes, unless that was written since.
    pub(super) fn former(&self, key: &Key) -> Option<&Value> {
        let read = || self.reads.get(key).and_then(|read| read.value.as_ref());
        self.formers.get(key).map_or_else(read, Option::as_ref)
    }

    /// Looks up what stands under the keys that it writes, since the disk is not read under a lock. What
    /// was written lately is kept, too: it may be on the disk, and forgotten, before this is committed.
    pub(super) fn look_up(&mut self, store: &Open) -> Result<(), CommitError> {
        let mut on_disk = Vec::new();
        {
            let mut state = store.state.lock();
            if self.began.is_none() && !self.writes.is_empty() {
                self.began = Some(state.recent.begin());
            }
            for key in self.writes.keys() {
                if self.reads.contains_key(key) {
                    continue;
                }
                match state.recent.get(key) {
                    Some(recent) => _ = self.formers.insert(key.clone(), recent.cloned()),
                    None => on_disk.push(key.clone()),
                }
            }
        }
        for key in on_disk {
            let value = store.disk.get(&key).map_err(CommitError::Unavailable)?;
            self.formers.insert(key, value);
        }
        Ok(())
    }

    fn read(&mut self, key: &Key) -> Result<Option<Value>, CommitError> {
        if let Some(read) = self.reads.get(key) {
            return Ok(read.live());
        }
        let (at, recent) = {
            let mut state = self.store.state.lock();
            let at = state.recent.seq();
            if self.began.is_none() {
                self.began = Some(state.recent.begin());
            }
            (at, state.recent.get(key).map(|value| value.cloned()))
        };
        let value = match recent {
            Some(value) => value,
            None => self.store.disk.get(key).map_err(CommitError::Unavailable)?,
        };
        let read = Read {
            at,
            is_live: value.as_ref().is_some_and(|value| value.is_live(now())),
            value,
        };
        let live = read.live();
        self.reads.insert(key.clone(), read);
        Ok(live)
    }

    /// The keys of a range as others have committed them, with as many of them as this transaction has
    /// taken away or may take away.
    fn read_range(
        &mut self,
        range: &mut Range,
        limit: usize,
    ) -> Result<BTreeMap<Key, Value>, CommitError> {
        let own = self
            .writes
            .range::<str, _>((range.from(), Bound::Unbounded));
        let own = own.take_while(|(key, _)| range.covers(key.as_str()));
        let most = limit + own.filter(|(_, write)| **write == Write::Delete).count();
        // One time for all of it: where a key ended in between, those behind it would be missing.
        let now = now();
        let recent = {
            let mut state = self.store.state.lock();
            range.at = state.recent.seq();
            if self.began.is_none() {
                self.began = Some(state.recent.begin());
            }
            state.recent.range(range, most, now)
        };
        let recent: BTreeMap<_, _> = recent.into_iter().collect();
        let mut found = BTreeMap::new();
        // Behind the last of so many recent ones, nothing is wanted.
        let live = recent.values().flatten().filter(|value| value.is_live(now));
        let is_full = live.count() >= most;
        let end = recent.keys().next_back().filter(|_| is_full).cloned();
        let take = |key: Key, value: Value| {
            let is_wanted = end.as_ref().is_none_or(|end| key <= *end);
            if is_wanted && !recent.contains_key(&key) && value.is_live(now) {
                found.insert(key, value);
            }
            is_wanted && found.len() < most
        };
        self.store
            .disk
            .range(range, take)
            .map_err(CommitError::Unavailable)?;
        let is_live = |(key, value): (Key, Option<Value>)| {
            let value = value.filter(|value| value.is_live(now))?;
            Some((key, value))
        };
        found.extend(recent.into_iter().filter_map(is_live));
        while found.len() > most {
            found.pop_last();
        }
        if found.len() == most {
            range.last = found.keys().next_back().cloned();
        }
        Ok(found)
    }
}

/// Others need not be held against it any more.
impl Drop for Transaction {
    fn drop(&mut self) {
        if self.began.is_some() {
            let store = self.store.clone();
            store.state.lock().recent.end(self);
        }
    }
}

/// Why keys cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The prefix, or the key to begin behind, is none.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// They cannot be read, or not added to.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

fn added(key: &Key, former: Option<&Value>, delta: i64) -> Result<Value, CommitError> {
    sum(former, delta).map_err(|reason| CommitError::NoNumber {
        key: key.name().to_owned(),
        reason,
    })
}
