//! What a server of a cluster does as it reads the stream of all of them.

use std::time::SystemTime;

use super::{Broadcast, EVERY_NAMESPACE};
use crate::{
    cluster::{Apply, Change, Entry, EntryId},
    presence,
    transport::{Broadcasted, Selection},
    user::UserId,
};

impl Apply for Broadcast {
    fn redis_shows(&self, time: SystemTime) {
        self.history.redis_shows(time);
    }

    fn begin(&self, first: EntryId, first_kept: EntryId) {
        self.history.begin(first_kept);
        self.namespaces.recovery().has_read(first);
        self.namespaces.begin(Some(first.number()));
        // Whoever came while Redis was away has not got what other servers have sent since.
        let early = self.connections.all();
        for adapter in self.namespaces.all() {
            if !early.is_empty() {
                adapter.interrupt();
            }
            adapter.start_at(first);
        }
        early
            .iter()
            .for_each(|connection| connection.end_transport());
    }

    fn remember(&self, id: EntryId, entry: Entry) {
        let change = match entry.change {
            Change::Tell(message) => {
                let new = self.presence().hear_told_before(&entry.namespace, &message);
                new.map(Change::Tell)
            }
            change => Some(change),
        };
        self.keep_read(id, &entry.namespace, entry.to, change);
    }

    fn is_in(&self, id: EntryId, entry: Entry) {
        let change = match entry.change {
            Change::Presence(news) => {
                self.presence().hear(news);
                None
            }
            Change::Tell(message) => {
                let new = self.presence().hear_told(&entry.namespace, &message);
                new.map(Change::Tell)
            }
            change => Some(change),
        };
        self.keep_read(id, &entry.namespace, entry.to, change);
    }

    fn apply(&self, id: EntryId, entry: Entry) {
        let Entry {
            namespace,
            to,
            change,
        } = entry;
        self.namespaces.recovery().has_read(id);
        self.history.has_read(id);
        match (change, &*namespace) {
            (Change::Disconnect { close }, EVERY_NAMESPACE) => {
                for user in to.rooms.iter().filter_map(|room| UserId::of_room(room)) {
                    self.disconnect_here(&user, close);
                }
            }
            (change, namespace) => self.perform(Some(id), namespace, to, change),
        }
    }

    fn has_applied(&self, last: EntryId) {
        self.namespaces.recovery().has_performed(last);
    }

    fn apply_alone(&self, entry: Entry) {
        self.perform_alone(&entry.namespace, entry.to, entry.change);
    }

    fn is_ahead(&self, is_ahead: bool) {
        self.presence().set_ahead(is_ahead);
        self.namespaces.recovery().set_ahead(is_ahead);
    }

    fn is_interrupted(&self, has_missed: bool) {
        self.history.has_missed();
        self.presence().is_interrupted();
        self.namespaces.begin(None);
        for adapter in self.namespaces.all() {
            adapter.interrupt();
        }
        if has_missed {
            for connection in self.connections.all() {
                connection.end_transport();
            }
        }
    }
}

impl Broadcast {
    /// Keeps what is sent in a namespace that nobody has opened here, for clients that come back to this server.
    pub(super) fn keep_unopened(
        &self,
        id: EntryId,
        namespace: &str,
        to: Selection,
        change: Change,
    ) {
        let Some(broadcasted) = broadcasted(id, to, change) else {
            return;
        };
        // It was opened at this moment: somebody may be in it.
        if let Some((adapter, it)) = self.namespaces.keep_unopened(namespace, broadcasted) {
            adapter.broadcast(Some(it.id), it.to, &it.event, it.message, false);
        }
    }

    /// Keeps an entry that is not passed on to those who are here, if there is something to keep.
    fn keep_read(&self, id: EntryId, namespace: &str, to: Selection, change: Option<Change>) {
        self.namespaces.recovery().has_read(id);
        self.history.has_read(id);
        let broadcasted = match change {
            Some(Change::Keep(kept)) => return self.history.keep_entry(id, kept),
            change => change.and_then(|change| broadcasted(id, to, change)),
        };
        let Some(broadcasted) = broadcasted else {
            return;
        };
        let known = match self.namespaces.get(namespace) {
            Some(adapter) => Some((adapter, broadcasted)),
            None => self.namespaces.keep_unopened(namespace, broadcasted),
        };
        if let Some((adapter, it)) = known {
            adapter.remember(it.id, it.to, &it.event, it.message);
        }
    }
}

/// What clients that were away are told of a change, if it is something.
fn broadcasted(id: EntryId, to: Selection, change: Change) -> Option<Broadcasted> {
    let (event, message) = match change {
        Change::Emit {
            event,
            message,
            volatile: false,
            sender: _,
        } => (event, message),
        Change::Tell(message) => (presence::EVENT.to_owned(), message),
        _ => return None,
    };
    Some(Broadcasted {
        id,
        to,
        event,
        message,
    })
}
