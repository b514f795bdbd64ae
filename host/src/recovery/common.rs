//! What the namespaces of a server have in common: who dropped, and the memory for all of them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    Formers,
    place::{Notation, Tag},
    pool::Pool,
    stream,
};
use crate::{cluster::EntryId, config, user::UserId};

/// One bound each for what all namespaces keep.
pub struct Common {
    pub(super) limits: config::Recovery,
    /// Behind the last entry of the cluster's stream that was read; none on a server on its own.
    read_up_to: Option<AtomicU64>,
    /// Behind the last one that has happened in all namespaces.
    performed: AtomicU64,
    /// Clients have got what is not in the cluster's stream yet.
    is_ahead: AtomicBool,
    pub(super) formers: Formers,
    /// The memory of the broadcasts.
    pub(super) broadcasts: Arc<Pool>,
    /// The memory of the events to single connections.
    pub(super) own: Arc<Pool>,
}

impl Common {
    /// Nothing yet, with these bounds, on a server on its own or of a cluster.
    pub fn new(limits: config::Recovery, is_clustered: bool) -> Self {
        let bytes = limits.max_bytes.as_usize();
        Self {
            formers: Formers::new(&limits),
            broadcasts: Arc::new(Pool::new(bytes, bytes)),
            own: Arc::new(Pool::new(bytes, stream::MOST)),
            limits,
            read_up_to: is_clustered.then(AtomicU64::default),
            performed: AtomicU64::default(),
            is_ahead: AtomicBool::default(),
        }
    }

    /// Whether clients have got what is not in the cluster's stream yet. Until it is, they are given no places:
    /// by one they would get it again on another server, where it comes behind that place.
    pub(crate) fn set_ahead(&self, is_ahead: bool) {
        self.is_ahead.store(is_ahead, Ordering::Release);
    }

    /// Whether it was set so.
    pub(crate) fn is_ahead(&self) -> bool {
        self.is_ahead.load(Ordering::Acquire)
    }

    /// An entry of the cluster's stream is about to be passed on to its namespace, if that is open.
    pub(crate) fn has_read(&self, entry: EntryId) {
        if let Some(read_up_to) = &self.read_up_to {
            read_up_to.store(entry.number() + 1, Ordering::Release);
        }
    }

    /// All entries of the cluster's stream up to this one have happened in all namespaces.
    pub(crate) fn has_performed(&self, entry: EntryId) {
        self.performed.store(entry.number() + 1, Ordering::Release);
    }

    /// No broadcast before this number is still to come; 0 on a server on its own.
    pub(super) fn performed(&self) -> u64 {
        self.performed.load(Ordering::Acquire)
    }

    /// The first number that a namespace has all broadcasts from which is open by now.
    pub(crate) fn next_number(&self) -> u64 {
        let read_up_to = self.read_up_to.as_ref();
        read_up_to.map_or(0, |number| number.load(Ordering::Acquire))
    }

    /// How the places of a new namespace are written.
    pub(super) fn notation(&self) -> Notation {
        match self.read_up_to {
            Some(_) => Notation::Entries,
            None => Notation::Tagged(Tag::random()),
        }
    }

    /// Whether clients get their connections back.
    pub fn is_enabled(&self) -> bool {
        self.limits.enabled
    }

    /// Forgets the connections of a user that dropped: nobody has them back.
    pub fn forget_user(&self, user: &UserId) {
        self.formers.forget_user(user);
    }

    /// Shares the memory out anew, by what the sweep of all journals has found.
    pub fn share_out(&self) {
        self.broadcasts.share_out();
        self.own.share_out();
    }
}
