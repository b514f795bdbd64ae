//! What has been written lately: what transactions are held against, and what is not on the disk yet.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    ops::Bound,
};

use super::{
    Bucket, CommitError, Key, NO_NUMBER, OUT_OF_RANGE, QuotaOf, Usage, Value,
    disk::{Batch, Held},
    transaction::{Former, Range, Transaction, Write},
};
use crate::{clock::now, config};

/// A disk that is so far behind takes no more: what waits for it is kept in memory.
const MAX_PENDING_BYTES: usize = 256 << 20;

/// Keys that were written and are not forgotten yet, with what the whole store holds.
///
/// Each commit has a number, `seq`. A key that is not here was not written since the first commit that
/// some transaction under way may not have seen, and stands on the disk.
#[derive(Default)]
pub(super) struct Recent {
    seq: u64,
    entries: BTreeMap<Key, Entry>,
    /// What was written when, for [`Recent::written`].
    history: VecDeque<(u64, Key)>,
    /// Transactions under way, by the commit that was the last when they began.
    under_way: BTreeMap<u64, usize>,
    /// What the disk does not have yet.
    pending: HashSet<Key>,
    /// What of it was written since, in bytes, each time it was.
    pending_bytes: usize,
    usage: HashMap<Bucket, Usage>,
    /// What all buckets cost that plugins share.
    shared: u64,
    /// Buckets whose usage has changed since.
    used: HashSet<Bucket>,
    /// Keys with a time to live, by its end.
    expiries: BTreeSet<(u64, Key)>,
    /// A transaction that began before this has read what was undone.
    undone: u64,
}

struct Entry {
    seq: u64,
    /// None: deleted.
    value: Option<Value>,
}

impl Recent {
    /// Over what a disk holds.
    pub(super) fn new(held: Held) -> Self {
        let mut recent = Self::default();
        recent.restore(held);
        recent
    }

    /// The number of the last commit.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// How much a bucket holds.
    pub(super) fn usage(&self, bucket: &Bucket) -> Usage {
        self.usage.get(bucket).copied().unwrap_or_default()
    }

    /// A transaction begins; what it may have to be held against is kept until [`Recent::end`].
    pub(super) fn begin(&mut self) -> u64 {
        self.begin_at(self.seq);
        self.seq
    }

    /// A transaction begins as one that is under way, and began at the commit `seq`.
    pub(super) fn begin_at(&mut self, seq: u64) {
        *self.under_way.entry(seq).or_default() += 1;
    }

    /// A transaction ends.
    pub(super) fn end(&mut self, transaction: &mut Transaction) {
        let Some(began) = transaction.take_began() else {
            return;
        };
        if let Some(count) = self.under_way.get_mut(&began) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&began);
            }
        }
    }

    /// A key's value as it was written lately; none if it stands on the disk.
    pub(super) fn get(&self, key: &Key) -> Option<Option<&Value>> {
        let entry = self.entries.get(key)?;
        Some(entry.value.as_ref())
    }

    /// What was written lately in a range: so many of those that are there at most, with all that were
    /// deleted before and between them.
    pub(super) fn range(&self, range: &Range, most: usize, now: u64) -> Vec<(Key, Option<Value>)> {
        let mut found = Vec::new();
        let mut there = 0;
        for (key, entry) in self.within(range) {
            found.push((key.clone(), entry.value.clone()));
            there += usize::from(entry.value.as_ref().is_some_and(|value| value.is_live(now)));
            if there == most {
                break;
            }
        }
        found
    }

    /// Whether nothing that a transaction read has been written since.
    pub(super) fn is_valid(&self, transaction: &Transaction) -> bool {
        let is_since = |at: u64, entry: &Entry| entry.seq > at;
        let Some(began) = transaction.began() else {
            return true;
        };
        began >= self.undone
            && transaction.reads().all(|(key, at)| {
                let entry = self.entries.get(key);
                !entry.is_some_and(|entry| is_since(at, entry))
            })
            && transaction.ranges().iter().all(|range| {
                let mut entries = self.within(range);
                !entries.any(|(_, entry)| is_since(range.at, entry))
            })
    }

    fn within<'a>(&'a self, range: &'a Range) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        let entries = self
            .entries
            .range::<str, _>((range.from(), Bound::Unbounded));
        entries.take_while(|(key, _)| range.covers(key.as_str()))
    }

    /// The last commit that wrote something of what a transaction read.
    pub(super) fn newest_of(&self, transaction: &Transaction) -> u64 {
        let keys = transaction
            .reads()
            .filter_map(|(key, _)| self.entries.get(key));
        let ranges = transaction.ranges().iter();
        let ranges = ranges.flat_map(|range| self.within(range).map(|(_, entry)| entry));
        keys.chain(ranges).map(|entry| entry.seq).max().unwrap_or(0)
    }

    /// Applies what a transaction writes, all of it or nothing; returns the number of the commit.
    pub(super) fn apply(
        &mut self,
        transaction: &Transaction,
        quota: &config::Store,
    ) -> Result<u64, CommitError> {
        let now = now();
        let mut usage: HashMap<Bucket, Usage> = HashMap::new();
        let mut values = Vec::with_capacity(transaction.writes().len());
        for (key, write) in transaction.writes() {
            let former = match self.get(key) {
                Some(value) => value.map(|value| Former::of(value, write)),
                None => transaction.former(key, write),
            };
            let value = match write {
                Write::Set(value) => Some(value.clone()),
                Write::Delete => None,
                Write::Add(delta) => {
                    let former = former.as_ref().and_then(|former| former.value.as_ref());
                    let live = former.filter(|value| value.is_live(now));
                    let sum = sum(live, *delta);
                    Some(sum.map_err(|reason| CommitError::no_number(key, reason))?)
                }
            };
            let bucket = key.bucket();
            let used = usage.entry(bucket);
            let used = used.or_insert_with_key(|bucket| self.usage(bucket));
            let size = |bytes| Usage::of(key.name(), bytes);
            if let Some(former) = &former {
                *used = used.minus(size(former.bytes));
            }
            if let Some(value) = &value {
                *used = used.plus(size(value.bytes.len()));
            }
            let expires = former.and_then(|former| former.expires);
            values.push((key.clone(), expires, value));
        }
        for (bucket, used) in &usage {
            check_quota(bucket, self.usage(bucket), *used, quota)?;
        }
        let before = usage.keys().map(|bucket| (bucket, self.usage(bucket)));
        let before = cost_of_shared(before);
        let after = cost_of_shared(&usage);
        let shared = self.shared.saturating_sub(before).saturating_add(after);
        if shared > quota.shared_bytes.bytes() && after > before {
            return Err(CommitError::OverQuota {
                budget: "shared_bytes",
                allowed: quota.shared_bytes.to_string(),
                of: QuotaOf::Shared,
            });
        }
        self.shared = shared;
        self.seq += 1;
        for (key, expired, value) in values {
            if let Some(expires) = expired {
                self.expiries.remove(&(expires, key.clone()));
            }
            if let Some(expires) = value.as_ref().and_then(|value| value.expires) {
                self.expiries.insert((expires, key.clone()));
            }
            let bytes = value.as_ref().map_or(0, |value| value.bytes.len());
            self.pending_bytes += key.as_str().len() + bytes;
            self.history.push_back((self.seq, key.clone()));
            self.pending.insert(key.clone());
            let seq = self.seq;
            self.entries.insert(key, Entry { seq, value });
        }
        for (bucket, used) in usage {
            if used == self.usage(&bucket) {
                continue;
            }
            self.used.insert(bucket.clone());
            // There is no end of names for buckets.
            match used.keys {
                0 => _ = self.usage.remove(&bucket),
                _ => _ = self.usage.insert(bucket, used),
            }
        }
        Ok(self.seq)
    }

    /// Whether the disk takes what is written as fast as it comes, more or less.
    pub(super) fn keeps_up(&self) -> bool {
        self.pending_bytes <= MAX_PENDING_BYTES
    }

    /// Whether something is to be written to the disk.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What is to be written to the disk, up to the last commit.
    pub(super) fn pending(&self) -> Batch {
        let value = |key: &Key| {
            let value = self.entries.get(key).and_then(|entry| entry.value.clone());
            (key.clone(), value)
        };
        let usage = self.used.iter();
        Batch {
            values: self.pending.iter().map(value).collect(),
            usage: usage
                .map(|bucket| (bucket.clone(), self.usage(bucket)))
                .collect(),
        }
    }

    /// All that was committed up to `durable` is on the disk.
    pub(super) fn written(&mut self, durable: u64) {
        let is_later = |key: &Key| {
            self.entries
                .get(key)
                .is_some_and(|entry| entry.seq > durable)
        };
        self.pending.retain(is_later);
        let size = |key: &Key| {
            let value = self.entries.get(key).and_then(|entry| entry.value.as_ref());
            key.as_str().len() + value.map_or(0, |value| value.bytes.len())
        };
        self.pending_bytes = self.pending.iter().map(size).sum();
        let later: HashSet<_> = self.pending.iter().map(Key::bucket).collect();
        self.used.retain(|bucket| later.contains(bucket));
        self.forget(durable);
    }

    /// Undoes every commit after `durable`. What buckets hold is not known until [`Recent::restore`].
    pub(super) fn undo(&mut self, durable: u64) {
        self.entries.retain(|_, entry| entry.seq <= durable);
        self.history.retain(|(seq, _)| *seq <= durable);
        self.pending.clear();
        self.pending_bytes = 0;
        self.used.clear();
        // Who read what is undone began before this.
        self.seq += 1;
        self.undone = self.seq;
    }

    /// What the disk holds, after all that it does not hold was undone.
    pub(super) fn restore(&mut self, held: Held) {
        self.shared = cost_of_shared(&held.usage);
        self.usage = held.usage;
        self.expiries = held.expiries;
    }

    /// Forgets what is on the disk, as all is up to `durable`, and what no transaction has to be held
    /// against.
    fn forget(&mut self, durable: u64) {
        let first = self.under_way.keys().next().copied();
        let until = first.unwrap_or(u64::MAX).min(durable);
        while let Some((seq, key)) = self.history.pop_front_if(|(seq, _)| *seq <= until) {
            if self.entries.get(&key).is_some_and(|entry| entry.seq == seq) {
                self.entries.remove(&key);
            }
        }
    }

    /// Keys whose time is over, so many at most.
    pub(super) fn expired(&self, most: usize) -> Vec<(u64, Key)> {
        let now = now();
        let due = self
            .expiries
            .iter()
            .take_while(|(expires, _)| *expires <= now);
        due.take(most).cloned().collect()
    }

    /// How many keys are kept in memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many buckets hold something.
    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        self.usage.len()
    }

    /// Whether keys have a time to live.
    pub(super) fn has_expiries(&self) -> bool {
        !self.expiries.is_empty()
    }

    /// A key is gone by that time no more.
    pub(super) fn forget_expiry(&mut self, expires: u64, key: &Key) {
        self.expiries.remove(&(expires, key.clone()));
    }
}

/// A number that is stored, as text, with `delta` added. Its time to live stays.
pub(super) fn sum(former: Option<&Value>, delta: i64) -> Result<Value, &'static str> {
    let number = match former {
        None => 0,
        Some(value) => {
            let text = std::str::from_utf8(&value.bytes).ok();
            let number = text.and_then(|text| text.parse::<i64>().ok());
            number.ok_or(NO_NUMBER)?
        }
    };
    let sum = number.checked_add(delta);
    let sum = sum.ok_or(OUT_OF_RANGE)?;
    Ok(Value {
        bytes: sum.to_string().into_bytes().into(),
        expires: former.and_then(|value| value.expires),
    })
}

/// What those of the buckets cost that plugins share.
fn cost_of_shared<B: Borrow<Bucket>, U: Borrow<Usage>>(
    usage: impl IntoIterator<Item = (B, U)>,
) -> u64 {
    let usage = usage.into_iter();
    let shared = usage.filter(|(bucket, _)| bucket.borrow().is_shared());
    let costs = shared.map(|(bucket, used)| used.borrow().cost(bucket.borrow()));
    costs.fold(0, u64::saturating_add)
}

/// What a bucket would hold. One that shrinks is let, also where it holds more than it may by now.
fn check_quota(
    bucket: &Bucket,
    before: Usage,
    after: Usage,
    quota: &config::Store,
) -> Result<(), CommitError> {
    let over = |budget, allowed| CommitError::OverQuota {
        budget,
        allowed,
        of: QuotaOf::Bucket(bucket.to_string()),
    };
    if after.keys > quota.bucket_keys as u64 && after.keys > before.keys {
        return Err(over("bucket_keys", quota.bucket_keys.to_string()));
    }
    if after.bytes > quota.bucket_bytes.bytes() && after.bytes > before.bytes {
        return Err(over("bucket_bytes", quota.bucket_bytes.to_string()));
    }
    Ok(())
}
