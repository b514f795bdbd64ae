//! A room of a namespace.

use std::sync::Arc;

/// A room of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    namespace: Arc<str>,
    room: Arc<str>,
}

impl Place {
    pub(super) fn new(namespace: &str, room: &str) -> Self {
        Self {
            namespace: namespace.into(),
            room: room.into(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn room(&self) -> &str {
        &self.room
    }
}
