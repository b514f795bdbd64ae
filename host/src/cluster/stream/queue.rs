//! What is to be sent to all servers, until it was read back.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::entry;
use crate::cluster::Entry;

/// What an entry takes beside its text, in bytes.
const ENTRY_OVERHEAD: usize = 128;

/// How long an entry is kept that was read back: so far behind may others be when Redis loses what it has.
const KEPT: Duration = Duration::from_secs(2);

/// Entries in the order in which they are to be sent.
pub(crate) struct Queue {
    /// This server's name in the cluster: 16 hex digits, new with each start.
    pub name: Box<str>,
    max_bytes: usize,
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The oldest first, numbered without gaps.
    entries: VecDeque<Held>,
    /// What those take that were not read back.
    bytes: usize,
    /// The number of the next entry.
    next: u64,
    /// The number of the first one that was not read back. Those before it are kept for a while.
    unread: u64,
    /// The number of the next one to be sent.
    unsent: u64,
}

/// An entry as it is sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Its number.
    pub sequence: u64,
    /// The path of the namespace.
    pub namespace: String,
    /// The kind.
    pub kind: u8,
    /// The rest.
    pub data: String,
    /// It has happened here, before it is in.
    is_done: AtomicBool,
}

/// An entry, and when it was read back.
struct Held {
    entry: Arc<Outgoing>,
    read_at: Option<Instant>,
}

impl Outgoing {
    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    /// What it says.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let data = entry::decode(&self.data).ok()?;
        Entry::read(self.namespace.clone(), self.kind, &data).ok()?
    }

    fn bytes(&self) -> usize {
        self.namespace.len() + self.data.len() + ENTRY_OVERHEAD
    }
}

impl Queue {
    /// An empty one, that is full with so many bytes.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            name: format!("{:016x}", rand::random::<u64>()).into(),
            max_bytes,
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Whether there is room for more. Who has asked may still add what it is about to.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.lock().bytes < self.max_bytes
    }

    /// Adds an entry.
    pub(crate) fn push(&self, namespace: &str, kind: u8, data: String, is_done: bool) {
        let namespace = namespace.to_owned();
        let mut waiting = self.waiting.lock();
        let sequence = waiting.next;
        let outgoing = Outgoing {
            sequence,
            namespace,
            kind,
            data,
            is_done: is_done.into(),
        };
        waiting.next += 1;
        waiting.bytes += outgoing.bytes();
        waiting.entries.push_back(Held {
            entry: Arc::new(outgoing),
            read_at: None,
        });
        drop(waiting);
        self.more.notify_one();
    }

    /// The next entries to be sent, at most so many; waits for the first. They count as sent.
    pub(crate) async fn take(&self, most: usize) -> Vec<Arc<Outgoing>> {
        loop {
            let more = self.more.notified();
            let batch = self.waiting.lock().take(most);
            if !batch.is_empty() {
                return batch;
            }
            more.await;
        }
    }

    /// Whatever was not read back is to be sent again; with `all` also what was a moment ago, since what Redis
    /// had is lost, and others may not have read it.
    pub(crate) fn rewind(&self, all: bool) {
        let mut waiting = self.waiting.lock();
        waiting.forget_read(Instant::now());
        if all {
            waiting.unread = waiting.first();
            waiting.bytes = waiting.entries().map(|entry| entry.bytes()).sum();
            waiting
                .entries
                .iter_mut()
                .for_each(|held| held.read_at = None);
        }
        waiting.unsent = waiting.unread;
    }

    /// An entry was read back, and so were all before it. Whether it had happened here before.
    pub(crate) fn is_in(&self, sequence: u64) -> bool {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let waiting = &mut *waiting;
        if sequence >= waiting.next {
            // Not one of this server's, whatever name it has.
            return false;
        }
        let first = waiting.first();
        let index = |number: u64| usize::try_from(number - first).expect("they are in memory");
        let Some(read) = sequence.checked_sub(first) else {
            return true;
        };
        let was_done = waiting
            .entries
            .get(read as usize)
            .is_some_and(|held| held.entry.is_done());
        for held in waiting.entries.range_mut(index(waiting.unread)..) {
            if held.entry.sequence > sequence {
                break;
            }
            waiting.bytes -= held.entry.bytes();
            held.read_at = Some(now);
            // It has happened here with that, also if it is sent again.
            held.entry.is_done.store(true, Ordering::Relaxed);
        }
        waiting.unread = waiting.unread.max(sequence + 1);
        waiting.unsent = waiting.unsent.max(waiting.unread);
        waiting.forget_read(now);
        was_done
    }

    /// What was not read back and has not happened here, in order. It counts as done.
    pub(crate) fn do_all(&self) -> Vec<Arc<Outgoing>> {
        let waiting = self.waiting.lock();
        let unread = waiting.entries().filter(|it| it.sequence >= waiting.unread);
        let is_open = |it: &&Arc<Outgoing>| !it.is_done.swap(true, Ordering::Relaxed);
        unread.filter(is_open).cloned().collect()
    }

    /// Whether something has happened here that is not in.
    pub(crate) fn is_ahead(&self) -> bool {
        let waiting = self.waiting.lock();
        let is_unread = |it: &&Arc<Outgoing>| it.sequence >= waiting.unread;
        let mut unread = waiting.entries().rev().take_while(is_unread);
        unread.any(|it| it.is_done())
    }

    /// What waits, in entries and bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        let entries = waiting.next - waiting.unread;
        (
            usize::try_from(entries).expect("they are in memory"),
            waiting.bytes,
        )
    }
}

impl Waiting {
    /// The number of the oldest entry, or of the next one if there is none.
    fn first(&self) -> u64 {
        self.entries
            .front()
            .map_or(self.next, |held| held.entry.sequence)
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<Outgoing>> {
        self.entries.iter().map(|held| &held.entry)
    }

    /// Forgets what was read back so long ago that everybody has read it.
    fn forget_read(&mut self, now: Instant) {
        while let Some(first) = self.entries.front()
            && let Some(read_at) = first.read_at
            && now.duration_since(read_at) > KEPT
        {
            self.entries.pop_front();
        }
    }

    fn take(&mut self, most: usize) -> Vec<Arc<Outgoing>> {
        let sent = usize::try_from(self.unsent - self.first()).expect("they are in memory");
        let batch: Vec<_> = self.entries().skip(sent).take(most).cloned().collect();
        if let Some(last) = batch.last() {
            self.unsent = last.sequence + 1;
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, times: usize) {
        for _ in 0..times {
            queue.push("/", 6, "{}".to_owned(), false);
        }
    }

    async fn sent(queue: &Queue, most: usize) -> Vec<u64> {
        let batch = queue.take(most).await;
        batch.iter().map(|entry| entry.sequence).collect()
    }

    #[tokio::test]
    async fn what_was_not_read_back_is_sent_again() {
        let queue = Queue::new(390);
        push(&queue, 3);
        assert!(!queue.has_room());
        assert_eq!(sent(&queue, 2).await, [0, 1]);
        assert_eq!(sent(&queue, 2).await, [2]);
        assert!(!queue.is_in(0));
        queue.rewind(false);
        assert_eq!(sent(&queue, 9).await, [1, 2]);
        // An old connection brings one in.
        queue.rewind(false);
        queue.is_in(1);
        assert_eq!(sent(&queue, 9).await, [2]);
        queue.is_in(2);
        assert_eq!(queue.waiting(), (0, 0));
        queue.rewind(false);
        push(&queue, 1);
        assert_eq!(sent(&queue, 9).await, [3]);
        // Redis has lost what it had.
        queue.rewind(true);
        assert_eq!(sent(&queue, 9).await, [0, 1, 2, 3]);
    }

    #[test]
    fn what_has_happened_here_is_known_when_it_is_read_back() {
        let queue = Queue::new(400);
        push(&queue, 2);
        assert_eq!(queue.do_all().len(), 2);
        assert_eq!(queue.do_all().len(), 0);
        push(&queue, 1);
        assert!(queue.is_ahead());
        assert!(queue.is_in(0) && queue.is_in(1) && !queue.is_ahead());
        assert!(!queue.is_in(2));
        // Somebody else uses this server's name.
        assert!(!queue.is_in(u64::MAX));
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[tokio::test]
    async fn what_is_to_be_sent_again_is_kept_until_it_is_in_again() {
        let queue = Queue::new(400);
        push(&queue, 2);
        assert_eq!(sent(&queue, 9).await, [0, 1]);
        queue.is_in(1);
        queue.rewind(true);
        assert!(queue.do_all().is_empty(), "both have happened here");
        let later = Instant::now() + 2 * KEPT;
        queue.waiting.lock().forget_read(later);
        assert_eq!(queue.waiting().0, 2);
        assert_eq!(sent(&queue, 9).await, [0, 1]);
        queue.is_in(1);
        queue.waiting.lock().forget_read(later);
        assert_eq!(queue.waiting(), (0, 0));
        assert!(queue.waiting.lock().entries.is_empty());
    }
}
