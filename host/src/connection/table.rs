//! The table of all live connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ahash::HashMap;
use parking_lot::Mutex;

use super::Connection;
use crate::{memory, transport::SessionKey};

/// All live connections, and how many clients they belong to.
#[derive(Default)]
pub(crate) struct Connections {
    by_client: Mutex<HashMap<SessionKey, Vec<Arc<Connection>>>>,
    /// Counted beside the table, so that reading it costs nothing.
    clients: AtomicUsize,
}

impl Connections {
    /// How many clients are connected; one with several namespaces counts once.
    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Adds a connection.
    pub(crate) fn insert(&self, connection: Arc<Connection>) {
        let mut by_client = self.by_client.lock();
        let its = by_client.entry(connection.key.session).or_default();
        // Most clients use one namespace.
        its.reserve_exact(1);
        its.push(connection);
        self.clients.store(by_client.len(), Ordering::Relaxed);
    }

    /// Removes a connection; false if it was not there.
    pub(crate) fn remove(&self, connection: &Arc<Connection>) -> bool {
        let mut by_client = self.by_client.lock();
        let Some(connections) = by_client.get_mut(&connection.key.session) else {
            return false;
        };
        let before = connections.len();
        connections.retain(|other| !Arc::ptr_eq(other, connection));
        let removed = connections.len() < before;
        if connections.is_empty() {
            by_client.remove(&connection.key.session);
            memory::shrink(&mut *by_client);
        }
        self.clients.store(by_client.len(), Ordering::Relaxed);
        removed
    }

    /// A client's connection to a namespace.
    pub(crate) fn get(&self, client: SessionKey, namespace: &str) -> Option<Arc<Connection>> {
        let by_client = self.by_client.lock();
        let mut connections = by_client.get(&client)?.iter();
        connections.find(|c| c.namespace() == namespace).cloned()
    }

    /// Has the server end a connection, or all of its client's and then the transport. Nothing
    /// happens if it has ended already.
    pub(crate) fn disconnect(&self, connection: &Connection, close: bool) {
        let is_it = |other: &Arc<Connection>| std::ptr::eq(&**other, connection);
        let mut ended = {
            let by_client = self.by_client.lock();
            let its = by_client.get(&connection.key.session);
            let Some(its) = its.filter(|its| its.iter().any(is_it)) else {
                return;
            };
            its.clone()
        };
        if !close {
            ended.retain(is_it);
        }
        ended.iter().for_each(|connection| connection.disconnect());
        if close {
            connection.close_transport();
        }
    }

    /// The connections of `clients` to a namespace.
    pub(crate) fn of(&self, clients: &[SessionKey], namespace: &str) -> Vec<Arc<Connection>> {
        let by_client = self.by_client.lock();
        let its = |client: &SessionKey| {
            let mut connections = by_client.get(client)?.iter();
            connections.find(|c| c.namespace() == namespace).cloned()
        };
        clients.iter().filter_map(its).collect()
    }

    /// All of a client's.
    pub(crate) fn of_client(&self, client: SessionKey) -> Vec<Arc<Connection>> {
        let by_client = self.by_client.lock();
        by_client.get(&client).cloned().unwrap_or_default()
    }

    /// All of them, as they are now.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        let by_client = self.by_client.lock();
        by_client.values().flatten().cloned().collect()
    }
}
