//! What the namespaces of a server have in common: who dropped, and the memory for all of them.

use std::sync::Arc;

use super::{Formers, pool::Pool, stream};
use crate::{config, user::UserId};

/// One bound each for what all namespaces keep.
pub struct Common {
    pub(super) limits: config::Recovery,
    pub(super) formers: Formers,
    /// The memory of the broadcasts.
    pub(super) broadcasts: Arc<Pool>,
    /// The memory of the events to single connections.
    pub(super) own: Arc<Pool>,
}

impl Common {
    /// Nothing yet, with these bounds.
    pub fn new(limits: config::Recovery) -> Self {
        let bytes = limits.max_bytes.as_usize();
        Self {
            formers: Formers::new(&limits),
            broadcasts: Arc::new(Pool::new(bytes, bytes)),
            own: Arc::new(Pool::new(bytes, stream::MOST)),
            limits,
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
