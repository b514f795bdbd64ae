//! What a cluster sends in namespaces that nobody has opened here: a client that was in one on another server may come
//! back to this one, which opens it then.

use std::collections::VecDeque;

use crate::{cluster::EntryId, message::Message, transport::Selection};

/// What an entry takes beside its texts, in bytes.
const ENTRY_BYTES: usize = 200;

/// So much of what broadcasts may take together is for those of namespaces that are not open.
const SHARE: usize = 4;

/// A broadcast.
pub(crate) struct Broadcasted {
    pub id: EntryId,
    pub to: Selection,
    pub event: String,
    pub message: Message,
}

/// The last broadcasts in namespaces that are not open.
pub(super) struct Unopened {
    max_events: usize,
    max_bytes: usize,
    /// All from this number on are there; none is known yet where some may be missing before the next one.
    first: Option<u64>,
    entries: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    number: u64,
    namespace: Box<str>,
    /// None where the namespace was closed: what was sent in it before is gone.
    broadcasted: Option<Broadcasted>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let sent = self.broadcasted.as_ref();
        ENTRY_BYTES + self.namespace.len() + sent.map_or(0, |it| it.event.len() + it.message.size())
    }
}

impl Unopened {
    /// Nothing is known of before this.
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            max_events,
            max_bytes: max_bytes / SHARE,
            first: None,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    /// All from this number on follow, or from whatever comes next, and nothing is known of before.
    pub(super) fn begin(&mut self, first: Option<u64>) {
        self.entries.clear();
        self.bytes = 0;
        self.first = first;
    }

    pub(super) fn keep(&mut self, namespace: &str, broadcasted: Broadcasted) {
        self.push(Entry {
            number: broadcasted.id.number(),
            namespace: namespace.into(),
            broadcasted: Some(broadcasted),
        });
    }

    /// A namespace was open, and is not after this number.
    pub(super) fn close(&mut self, namespace: &str, number: u64) {
        self.push(Entry {
            number,
            namespace: namespace.into(),
            broadcasted: None,
        });
    }

    fn push(&mut self, entry: Entry) {
        self.first.get_or_insert(entry.number);
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
            self.first = self.first.max(Some(oldest.number + 1));
        }
    }

    /// What was sent in a namespace that is opened, and the number from which on that is all; `next` where nothing is
    /// known of before.
    pub(super) fn open(&mut self, namespace: &str, next: u64) -> (u64, Vec<Broadcasted>) {
        let (its, others) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition::<VecDeque<_>, _>(|entry| *entry.namespace == *namespace);
        self.entries = others;
        self.bytes -= its.iter().map(Entry::bytes).sum::<usize>();
        let mut first = self.first.map_or(next, |first| first.min(next));
        let mut sent = Vec::new();
        for entry in its {
            match entry.broadcasted {
                Some(broadcasted) => sent.push(broadcasted),
                None => {
                    first = entry.number;
                    sent.clear();
                }
            }
        }
        (first, sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(unopened: &mut Unopened, namespace: &str, number: u64) {
        let broadcasted = Broadcasted {
            id: EntryId::from_number(number),
            to: Selection::default(),
            event: "e".to_owned(),
            message: Message::none(),
        };
        unopened.keep(namespace, broadcasted);
    }

    fn open(unopened: &mut Unopened, namespace: &str) -> (u64, Vec<u64>) {
        let (first, sent) = unopened.open(namespace, 100);
        (first, sent.iter().map(|it| it.id.number()).collect())
    }

    #[test]
    fn who_opens_a_namespace_learns_what_is_known_and_since_when() {
        let mut unopened = Unopened::new(4, 1_000_000);
        assert_eq!(open(&mut unopened, "/a"), (100, vec![]));
        unopened.begin(Some(10));
        for number in 11..14 {
            keep(&mut unopened, ["/a", "/b"][number as usize % 2], number);
        }
        assert_eq!(open(&mut unopened, "/a"), (10, vec![12]));
        unopened.close("/b", 14);
        keep(&mut unopened, "/b", 15);
        assert_eq!(open(&mut unopened, "/b"), (14, vec![15]));
        for number in 20..26 {
            keep(&mut unopened, "/c", number);
        }
        assert_eq!(open(&mut unopened, "/c"), (22, vec![22, 23, 24, 25]));
        assert_eq!((unopened.bytes, unopened.entries.len()), (0, 0));
        unopened.begin(None);
        keep(&mut unopened, "/c", 30);
        assert_eq!(open(&mut unopened, "/d"), (30, vec![]));
    }

    #[test]
    fn what_is_kept_takes_no_more_than_its_share() {
        let mut unopened = Unopened::new(1_000, 4_000);
        unopened.begin(Some(0));
        for number in 0..100 {
            keep(&mut unopened, "/a", number);
        }
        assert!(unopened.bytes <= 1_000 && !unopened.entries.is_empty());
        let (first, sent) = open(&mut unopened, "/a");
        assert_eq!(sent.first(), Some(&first));
        assert_eq!(sent.last(), Some(&99));
    }
}
