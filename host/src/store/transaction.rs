//! What a call reads and writes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use super::{
    Bucket, CommitError, InvalidKey, Key, OUT_OF_RANGE, Open, Reads, Value, local::Local,
    recent::sum,
};
use crate::clock::now;

/// A call's reads and writes. Reads see its own writes; nobody else does before it is committed.
pub struct Transaction {
    store: Open,
    /// The last commit when it read for the first time; none if it did not, or has ended.
    began: Option<u64>,
    reads: BTreeMap<Key, Read>,
    ranges: Vec<Range>,
    writes: BTreeMap<Key, Write>,
    /// What stood under the keys that it writes when it was about to commit, of those whose value it does not
    /// have.
    formers: HashMap<Key, Option<Former>>,
    /// What has to stand where, for servers that have a store in common.
    expected: Vec<(Key, String)>,
    /// Of the keys and values that it sets.
    set_bytes: u64,
    /// Where is noted what it reads; none if nobody wants to know.
    noted: Option<Arc<Reads>>,
}

#[derive(Clone)]
struct Read {
    /// On a disk the last commit when it was read; in Redis the one that wrote it, 0 if nothing stands there.
    at: u64,
    /// What stands there, whether its time is over or not.
    value: Seen,
    /// Whether it was there still. It is for the whole transaction, however long that takes.
    is_live: bool,
}

/// A value that was read.
#[derive(Clone)]
enum Seen {
    Kept(Option<Value>),
    /// Nobody wants it. It is read again if somebody does.
    LetGo,
}

/// What stands under a key that is written.
#[derive(Debug, Clone)]
pub(super) struct Former {
    /// Bytes of the value.
    pub bytes: usize,
    /// When it is gone.
    pub expires: Option<u64>,
    /// The value itself, where it is added to: of all others it would be in memory for nothing.
    pub value: Option<Value>,
}

impl Former {
    /// Of a value that is written over like this.
    pub(super) fn of(value: &Value, write: &Write) -> Self {
        Self {
            bytes: value.bytes.len(),
            expires: value.expires,
            value: matches!(write, Write::Add(_)).then(|| value.clone()),
        }
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

/// How many keys are listed at once.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// So many.
    pub keys: usize,
    /// And no more than have so many bytes with their values, but one.
    pub bytes: usize,
}

/// Keys in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys with their values.
    pub entries: Vec<Entry>,
    /// Whether their bytes were too many for the next one.
    pub is_cut: bool,
}

/// Keys that were read together.
#[derive(Debug, Clone)]
pub(super) struct Range {
    /// What they begin with.
    pub(super) prefix: Key,
    /// The one before the first; none: from the first on.
    pub(super) after: Option<Key>,
    /// The last one that was read; none: to the end.
    pub(super) last: Option<Key>,
    /// On a disk, the last commit when they were read.
    pub(super) at: u64,
    /// In Redis, what stood there.
    pub(super) stood: Option<Stood>,
}

/// All that stood in a range in Redis, whether its time was over or not.
#[derive(Debug, Clone)]
pub(super) struct Stood {
    /// How many keys there were.
    pub count: u64,
    /// A hash over them and the commits that wrote them.
    pub hash: String,
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
    pub fn new(store: Open) -> Self {
        Self {
            store,
            began: None,
            reads: BTreeMap::new(),
            ranges: Vec::new(),
            writes: BTreeMap::new(),
            formers: HashMap::new(),
            expected: Vec::new(),
            set_bytes: 0,
            noted: None,
        }
    }

    /// What it reads and writes from now on is noted.
    pub(crate) fn note(&mut self, reads: Option<Arc<Reads>>) {
        self.noted = reads;
    }

    /// The store that it is for.
    pub fn store(&self) -> &Open {
        &self.store
    }

    /// A key's value, as this transaction sees it.
    pub async fn get(&mut self, key: &Key) -> Result<Option<Value>, CommitError> {
        match self.writes.get(key) {
            Some(Write::Set(value)) => return Ok(Some(value.clone())),
            Some(Write::Delete) => return Ok(None),
            Some(Write::Add(_)) | None => {}
        }
        let value = self.read(key).await?;
        let Some(Write::Add(delta)) = self.writes.get(key) else {
            return Ok(value);
        };
        added(key, value.as_ref(), *delta).map(Some)
    }

    /// A key's value as others have committed it.
    pub async fn committed(&mut self, key: &Key) -> Result<Option<Value>, CommitError> {
        self.read(key).await
    }

    /// A key's value as others have committed it, if it was read before.
    pub fn known(&self, key: &Key) -> Option<Value> {
        match self.reads.get(key) {
            Some(Read {
                value: Seen::Kept(value),
                is_live: true,
                ..
            }) => value.clone(),
            _ => None,
        }
    }

    /// Whether this server is the one that deals with what stands under a key, which was read: for so long no
    /// other one is told so. A store on disk has no other one.
    pub async fn claim(&self, key: &Key, time: Duration) -> Result<bool, CommitError> {
        match (&self.store, self.reads.get(key)) {
            (Open::Redis(remote), Some(read)) => remote.claim(key, read.at, time).await,
            _ => Ok(true),
        }
    }

    /// The value that was read of a key is of no use. What it was is held against the commit as ever.
    pub fn let_go(&mut self, key: &Key) {
        if let Some(read) = self.reads.get_mut(key) {
            read.value = Seen::LetGo;
        }
    }

    /// So many keys at most that begin with `prefix`, behind `after`, in order of their bytes. Of the disk no more
    /// is read than that.
    pub async fn scan(
        &mut self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<&str>,
        most: Most,
    ) -> Result<Page, ScanError> {
        if most.keys == 0 {
            return Ok(Page {
                entries: Vec::new(),
                is_cut: false,
            });
        }
        let after = after.map(|after| Key::prefix(bucket, after)).transpose()?;
        let mut range = Range {
            prefix: Key::prefix(bucket, prefix)?,
            after,
            last: None,
            at: 0,
            stood: None,
        };
        let (found, is_cut) = self.read_range(&mut range, most).await?;
        self.ranges.push(range);
        let entry = |(key, value): (Key, Value)| Entry {
            key: key.name().to_owned(),
            value,
        };
        Ok(Page {
            entries: found.into_iter().map(entry).collect(),
            is_cut,
        })
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
        if let Some(noted) = &self.noted {
            noted.wrote(&key);
        }
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
                    return Err(CommitError::no_number(&key, OUT_OF_RANGE));
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
        if let (Open::Disk(local), Some(began)) = (&self.store, self.began) {
            local.state.lock().recent.begin_at(began);
        }
        Self {
            store: self.store.clone(),
            began: self.began,
            reads: self.reads.clone(),
            ranges: self.ranges.clone(),
            writes: self.writes.clone(),
            formers: self.formers.clone(),
            expected: self.expected.clone(),
            set_bytes: self.set_bytes,
            noted: self.noted.clone(),
        }
    }

    /// Whether it is of a store that servers have in common.
    pub fn is_shared(&self) -> bool {
        matches!(self.store, Open::Redis(_))
    }

    /// It holds only as long as this number stands there, or nothing if that is 0; else it is outdated. Only
    /// other servers are held against it.
    pub fn expect(&mut self, key: Key, number: u32) {
        self.expected.push((key, number.to_string()));
    }

    /// What has to stand where.
    pub(super) fn expected(&self) -> &[(Key, String)] {
        &self.expected
    }

    /// Whether others may have come between. One that looked once, and writes nothing, has seen what was so
    /// at one time.
    pub(super) fn has_to_be_validated(&self) -> bool {
        !self.writes.is_empty() || self.reads.len() + self.ranges.len() > 1
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

    /// What was written since it was last to be noted.
    pub(crate) fn noted_writes(&self) -> BTreeMap<Key, Write> {
        let written = self.noted.as_ref().map(|noted| noted.written());
        let written = written.unwrap_or_default().into_iter();
        written
            .filter_map(|key| self.writes.get(&key).cloned().map(|write| (key, write)))
            .collect()
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

    /// What stood under a key that it writes like this, unless that was written since.
    pub(super) fn former(&self, key: &Key, write: &Write) -> Option<Former> {
        if let Some(former) = self.formers.get(key) {
            return former.clone();
        }
        match &self.reads.get(key)?.value {
            Seen::Kept(value) => value.as_ref().map(|value| Former::of(value, write)),
            Seen::LetGo => None,
        }
    }

    /// How many bytes of values it has in memory that it did not write.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let reads = self.reads.values().filter_map(|read| match &read.value {
            Seen::Kept(value) => value.as_ref(),
            Seen::LetGo => None,
        });
        let formers = self.formers.values().flatten();
        let formers = formers.filter_map(|former| former.value.as_ref());
        reads.chain(formers).map(|value| value.bytes.len()).sum()
    }

    /// Looks up what stands under the keys that it writes, since the disk is not read under a lock. What
    /// was written lately is kept, too: it may be on the disk, and forgotten, before this is committed.
    pub(super) fn look_up(&mut self, store: &Local) -> Result<(), CommitError> {
        let mut on_disk = Vec::new();
        {
            let mut state = store.state.lock();
            if self.began.is_none() && !self.writes.is_empty() {
                self.began = Some(state.recent.begin());
            }
            for (key, write) in &self.writes {
                let read = self.reads.get(key).map(|read| &read.value);
                if matches!(read, Some(Seen::Kept(_))) {
                    continue;
                }
                match state.recent.get(key) {
                    Some(recent) => {
                        let former = recent.map(|value| Former::of(value, write));
                        self.formers.insert(key.clone(), former);
                    }
                    None => on_disk.push((key, write)),
                }
            }
        }
        for (key, write) in on_disk {
            let value = store.disk.get(key).map_err(CommitError::Unavailable)?;
            let former = value.map(|value| Former::of(&value, write));
            self.formers.insert(key.clone(), former);
        }
        Ok(())
    }

    async fn read(&mut self, key: &Key) -> Result<Option<Value>, CommitError> {
        let former = self.reads.get(key);
        if let Some(Read {
            value: Seen::Kept(value),
            is_live,
            ..
        }) = former
        {
            if let Some(noted) = &self.noted {
                noted.read(key, value.as_ref());
            }
            return Ok(value.clone().filter(|_| *is_live));
        }
        // Read again, it is still what it was at first that is held against the commit.
        let former = former.map(|read| (read.at, read.is_live));
        let (at, value) = match &self.store {
            Open::Disk(local) => local.read(key, &mut self.began)?,
            Open::Redis(remote) => remote.read(key).await?,
            Open::Recorded(recorded) => (0, recorded.read(key)?),
        };
        if let Some(noted) = &self.noted {
            noted.read(key, value.as_ref());
        }
        let is_live = value.as_ref().is_some_and(|value| value.is_live(now()));
        let (at, is_live) = former.unwrap_or((at, is_live));
        let live = value.clone().filter(|_| is_live);
        let value = Seen::Kept(value);
        self.reads.insert(key.clone(), Read { at, value, is_live });
        Ok(live)
    }

    /// The first keys of a range as this transaction sees them, and whether they were cut for their bytes.
    async fn read_range(
        &mut self,
        range: &mut Range,
        most: Most,
    ) -> Result<(BTreeMap<Key, Value>, bool), ScanError> {
        let own = self
            .writes
            .range::<str, _>((range.from(), Bound::Unbounded));
        let own = own.take_while(|(key, _)| range.covers(key.as_str()));
        let own: BTreeMap<&Key, &Write> = own.collect();
        let deleted = own.values().filter(|write| ***write == Write::Delete);
        let recent_keys = most.keys + deleted.count();
        let (mut found, is_cut) = match &self.store {
            Open::Disk(local) => {
                let began = &mut self.began;
                if let Some(noted) = &self.noted {
                    // Without what the call itself has written.
                    let (mut whole, none) = (range.clone(), BTreeMap::new());
                    let keys = most.keys + own.len();
                    let all = Most { keys, ..most };
                    let (found, _) = local.read_range(&mut whole, all, keys, &none, began)?;
                    noted.read_range(&whole, &found);
                }
                return local.read_range(range, most, recent_keys, &own, began);
            }
            Open::Redis(remote) => {
                let read = remote.read_range(range, recent_keys, most.bytes).await;
                let (found, is_cut) = read?;
                if let Some(noted) = &self.noted {
                    noted.read_range(range, &found);
                }
                (found, is_cut)
            }
            Open::Recorded(recorded) => {
                let found = recorded.read_range(range, recent_keys)?;
                if found.len() == recent_keys {
                    range.last = found.keys().next_back().cloned();
                }
                (found, false)
            }
        };
        let seen = |key: &Key| range.covers(key.as_str());
        for (&key, &write) in own.iter().filter(|(key, _)| seen(key)) {
            put(&mut found, key, write)?;
        }
        while found.len() > most.keys {
            found.pop_last();
        }
        Ok((found, is_cut))
    }
}

/// Puts what a transaction writes among what others have committed.
fn put(found: &mut BTreeMap<Key, Value>, key: &Key, write: &Write) -> Result<(), CommitError> {
    match write {
        Write::Set(value) => _ = found.insert(key.clone(), value.clone()),
        Write::Delete => _ = found.remove(key),
        Write::Add(delta) => {
            let sum = added(key, found.get(key), *delta)?;
            found.insert(key.clone(), sum);
        }
    }
    Ok(())
}

impl Local {
    /// A key's value, whether its time is over or not, and the last commit by then. A transaction that has
    /// not begun does.
    fn read(
        &self,
        key: &Key,
        began: &mut Option<u64>,
    ) -> Result<(u64, Option<Value>), CommitError> {
        let (at, recent) = {
            let mut state = self.state.lock();
            let at = state.recent.seq();
            if began.is_none() {
                *began = Some(state.recent.begin());
            }
            (at, state.recent.get(key).map(|value| value.cloned()))
        };
        let value = match recent {
            Some(value) => value,
            None => self.disk.get(key).map_err(CommitError::Unavailable)?,
        };
        Ok((at, value))
    }

    /// The first keys of a range as a transaction sees them that writes its `own`, so many recent ones among
    /// them.
    fn read_range(
        &self,
        range: &mut Range,
        most: Most,
        recent_keys: usize,
        own: &BTreeMap<&Key, &Write>,
        began: &mut Option<u64>,
    ) -> Result<(BTreeMap<Key, Value>, bool), ScanError> {
        // One time for all of it: where a key ended in between, those behind it would be missing.
        let now = now();
        let recent = {
            let mut state = self.state.lock();
            range.at = state.recent.seq();
            if began.is_none() {
                *began = Some(state.recent.begin());
            }
            state.recent.range(range, recent_keys, now)
        };
        let recent: BTreeMap<_, _> = recent.into_iter().collect();
        let live = recent.iter().filter_map(|(key, value)| {
            let value = value.as_ref().filter(|value| value.is_live(now))?;
            Some((key.clone(), value.clone()))
        });
        let mut found: BTreeMap<Key, Value> = live.collect();
        for (&key, &write) in own {
            // What stands on the disk is added when it is read.
            put(&mut found, key, write)?;
        }
        while found.len() > most.keys {
            found.pop_last();
        }
        let mut bytes = 0;
        let mut cut = None;
        let mut failure = None;
        // Keys come from the disk in their order: those that stay when they come stay.
        let take = |key: Key, value: Value| {
            let is_full = found.len() >= most.keys;
            if is_full && found.last_key_value().is_some_and(|(last, _)| key > *last) {
                return false;
            }
            let write = own.get(&key);
            let is_hidden = matches!(write, Some(Write::Set(_) | Write::Delete));
            if is_hidden || recent.contains_key(&key) || !value.is_live(now) {
                return true;
            }
            let value = match write {
                Some(Write::Add(delta)) => match added(&key, Some(&value), *delta) {
                    Ok(sum) => sum,
                    Err(error) => {
                        failure = Some(error);
                        return false;
                    }
                },
                _ => value,
            };
            bytes += key.name().len() + value.bytes.len();
            if bytes > most.bytes {
                let is_first = found
                    .first_key_value()
                    .is_none_or(|(first, _)| *first >= key);
                if is_first {
                    found.insert(key.clone(), value);
                }
                cut = Some((key, is_first));
                return false;
            }
            found.insert(key, value);
            if found.len() > most.keys {
                found.pop_last();
            }
            true
        };
        self.disk
            .range(range, take)
            .map_err(CommitError::Unavailable)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        let is_cut = cut.is_some();
        if let Some((key, is_in)) = cut {
            // What is behind it was not read.
            let behind = found.split_off(&key);
            found.extend(
                behind
                    .into_iter()
                    .filter(|(other, _)| is_in && *other == key),
            );
        }
        if is_cut || found.len() == most.keys {
            range.last = found.keys().next_back().cloned();
        }
        Ok((found, is_cut))
    }
}

/// Others need not be held against it any more.
impl Drop for Transaction {
    fn drop(&mut self) {
        if self.began.is_none() {
            return;
        }
        if let Open::Disk(local) = &self.store {
            let local = local.clone();
            local.state.lock().recent.end(self);
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
    sum(former, delta).map_err(|reason| CommitError::no_number(key, reason))
}
