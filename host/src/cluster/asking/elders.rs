//! Servers with version 0.2 of the adapter: they say in the stream that they are there, count who says so, and ask
//! and answer there.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cluster::{Cluster, stream::entry::kind};

/// Who has not said for so long that it is there is gone.
const GONE: Duration = Duration::from_secs(10);

/// Those that there are.
#[derive(Default)]
pub(crate) struct Elders(Mutex<HashMap<Elder, Instant>>);

/// One, in a namespace: it has a name for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Elder {
    pub server: String,
    pub namespace: String,
}

/// What it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// It is new, and wants to know who is there.
    First,
    /// It is there.
    Again,
    /// It is, if it is one of them: it has said something else, after which it says that it is there later.
    Implied,
    /// It is gone.
    Last,
}

impl Beat {
    /// What an entry of this kind says.
    pub(crate) fn of(kind: u8) -> Self {
        match kind {
            kind::FIRST_BEAT => Self::First,
            kind::BEAT => Self::Again,
            kind::CLOSED => Self::Last,
            _ => Self::Implied,
        }
    }
}

impl Elders {
    fn hear(&self, elder: Elder, beat: Beat) {
        let mut elders = self.0.lock();
        match beat {
            Beat::Last => {
                elders.remove(&elder);
            }
            Beat::First | Beat::Again => {
                elders.insert(elder, Instant::now());
            }
            Beat::Implied => {
                if let Some(at) = elders.get_mut(&elder) {
                    *at = Instant::now();
                }
            }
        }
        elders.retain(|_, at| at.elapsed() < GONE);
    }

    /// How many have a namespace open.
    pub(crate) fn count(&self, namespace: &str) -> usize {
        let elders = self.0.lock();
        let has =
            |(elder, at): &(&Elder, &Instant)| elder.namespace == namespace && at.elapsed() < GONE;
        elders.iter().filter(has).count()
    }

    fn namespaces(&self) -> Vec<String> {
        let elders = self.0.lock();
        let mut all: Vec<_> = elders.keys().map(|elder| elder.namespace.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Cluster {
    /// One has said that it is there, or gone.
    pub(crate) fn hear_elder(&self, elder: Elder, beat: Beat) {
        if beat == Beat::First {
            self.beat(&elder.namespace);
        }
        self.elders.hear(elder, beat);
    }

    /// Asks those that there are to say so.
    pub(crate) fn look_for_elders(&self, namespaces: impl IntoIterator<Item = String>) {
        for namespace in namespaces {
            self.queue
                .push(&namespace, kind::FIRST_BEAT, "{}".to_owned(), false);
        }
    }

    /// Says to them that this server is there.
    pub(crate) fn beat_to_elders(&self) {
        for namespace in self.elders.namespaces() {
            self.beat(&namespace);
        }
    }

    fn beat(&self, namespace: &str) {
        if self.channels.listens(namespace) {
            self.queue
                .push(namespace, kind::BEAT, "{}".to_owned(), false);
        }
    }
}
