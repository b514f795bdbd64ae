//! Many servers as one: what concerns sockets of all of them goes through one stream in Redis, in the
//! form of `@socket.io/redis-streams-adapter`, so that Node's servers may be members, too.
//!
//! # One order
//!
//! A server performs what it has sent itself as it reads it back, like all others: so all of them perform
//! everything in the order of the stream, and the id of an entry is a place that any of them knows.
//!
//! # Nothing lost, nothing twice
//!
//! What is sent waits in the [`Queue`] until it was read back. When the connection to Redis was lost, the
//! reader first reads all that is there; what it has not found of its own is sent again. An entry has a
//! number of its sender's, by which readers drop what an old connection brought in late.

mod entry;
mod id;
mod link;
mod msgpack;
mod queue;
mod reader;
mod sender;

use std::sync::Arc;

pub(crate) use self::{
    entry::{Change, Entry},
    id::EntryId,
    reader::{Apply, Reader},
    sender::Sender,
};
use self::{link::Link, queue::Queue};
use crate::{config, transport::Selection};

/// This server's part in a cluster.
pub(crate) struct Cluster {
    link: Link,
    queue: Queue,
}

/// How it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Whether it reads what others send.
    pub is_connected: bool,
    /// Entries that wait to be sent, or to be read back.
    pub waiting_entries: usize,
    /// What they take, in bytes.
    pub waiting_bytes: usize,
}

/// Redis does not take what is sent, and no more can wait for it.
#[derive(Debug, thiserror::Error)]
#[error("Redis does not take what goes to other servers, and no more can wait for it")]
pub(crate) struct Full;

impl Cluster {
    /// The cluster that is configured, if one is. It is not connected yet: that is for [`Sender`] and
    /// [`Reader`].
    pub(crate) fn new(config: &config::Cluster) -> Option<Arc<Self>> {
        let url = config.url.as_ref()?;
        Some(Arc::new(Self {
            link: Link::new(url, config),
            queue: Queue::new(config.queue_bytes.as_usize()),
        }))
    }

    /// Has sockets of all servers changed, these ones too.
    pub(crate) fn send(&self, namespace: &str, to: &Selection, change: &Change) {
        self.queue.push(namespace, to, change);
    }

    /// Whether more may be sent. Who has asked may still send what it is about to.
    pub(crate) fn check_room(&self) -> Result<(), Full> {
        self.queue.has_room().then_some(()).ok_or(Full)
    }

    /// How it stands.
    pub(crate) fn sample(&self) -> Sample {
        let (waiting_entries, waiting_bytes) = self.queue.waiting();
        Sample {
            is_connected: self.link.round.borrow().has_caught_up,
            waiting_entries,
            waiting_bytes,
        }
    }
}
