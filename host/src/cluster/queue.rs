//! What is to be sent to all servers, until it was read back.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What an entry takes beside its text, in bytes.
const ENTRY_OVERHEAD: usize = 128;

/// Entries in the order in which they are to be sent.
pub(super) struct Queue {
    /// This server's name in the cluster: 16 hex digits, new with each start.
    pub name: Box<str>,
    max_bytes: usize,
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The oldest first, numbered without gaps.
    entries: VecDeque<Arc<Outgoing>>,
    bytes: usize,
    /// The number of the next entry.
    next: u64,
    /// The number of the next one to be sent.
    unsent: u64,
}

/// An entry as it is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Its number.
    pub sequence: u64,
    /// The path of the namespace.
    pub namespace: String,
    /// The kind.
    pub kind: u8,
    /// The rest.
    pub data: String,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        self.namespace.len() + self.data.len() + ENTRY_OVERHEAD
    }
}

impl Queue {
    /// An empty one, that is full with so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            name: format!("{:016x}", rand::random::<u64>()).into(),
            max_bytes,
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Whether there is room for more. Who has asked may still add what it is about to.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.lock().bytes < self.max_bytes
    }

    /// Adds an entry.
    pub(super) fn push(&self, namespace: &str, kind: u8, data: String) {
        let namespace = namespace.to_owned();
        let mut waiting = self.waiting.lock();
        let sequence = waiting.next;
        let outgoing = Outgoing {
            sequence,
            namespace,
            kind,
            data,
        };
        waiting.next += 1;
        waiting.bytes += outgoing.bytes();
        waiting.entries.push_back(Arc::new(outgoing));
        drop(waiting);
        self.more.notify_one();
    }

    /// The next entries to be sent, at most so many; waits for the first. They count as sent.
    pub(super) async fn take(&self, most: usize) -> Vec<Arc<Outgoing>> {
        loop {
            let more = self.more.notified();
            let batch = self.waiting.lock().take(most);
            if !batch.is_empty() {
                return batch;
            }
            more.await;
        }
    }

    /// Whatever was not read back is to be sent again.
    pub(super) fn rewind(&self) {
        let mut waiting = self.waiting.lock();
        waiting.unsent = waiting.first();
    }

    /// An entry was read back, and so were all before it.
    pub(super) fn is_in(&self, sequence: u64) {
        let mut waiting = self.waiting.lock();
        while let Some(first) = waiting.entries.front()
            && first.sequence <= sequence
        {
            waiting.bytes -= first.bytes();
            waiting.entries.pop_front();
        }
        waiting.unsent = waiting.unsent.max(waiting.first());
    }

    /// What waits, in entries and bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.entries.len(), waiting.bytes)
    }
}

impl Waiting {
    /// The number of the oldest entry, or of the next one if there is none.
    fn first(&self) -> u64 {
        self.entries
            .front()
            .map_or(self.next, |entry| entry.sequence)
    }

    fn take(&mut self, most: usize) -> Vec<Arc<Outgoing>> {
        let sent = usize::try_from(self.unsent - self.first()).expect("they are in memory");
        let batch: Vec<_> = self.entries.iter().skip(sent).take(most).cloned().collect();
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
            queue.push("/", 6, "{}".to_owned());
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
        queue.is_in(0);
        queue.rewind();
        assert_eq!(sent(&queue, 9).await, [1, 2]);
        // An old connection brings one in.
        queue.rewind();
        queue.is_in(1);
        assert_eq!(sent(&queue, 9).await, [2]);
        queue.is_in(2);
        assert_eq!(queue.waiting(), (0, 0));
        queue.rewind();
        push(&queue, 1);
        assert_eq!(sent(&queue, 9).await, [3]);
    }
}
