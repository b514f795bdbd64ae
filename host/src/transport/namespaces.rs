//! All namespaces that are being served, and what their clients have in common.

use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    adapter::Adapter,
    outbox::Capacity,
    session::{Session, Sessions},
};
use crate::{
    config::{self, SlowClient},
    recovery::Common,
};

/// The adapters of all namespaces by path.
pub struct Namespaces {
    adapters: RwLock<HashMap<String, Arc<Adapter>>>,
    dropped: AtomicU64,
    sessions: Arc<Sessions>,
    recovery: Arc<Common>,
    slow_client: SlowClient,
}

impl Namespaces {
    /// No namespaces yet.
    pub fn new(recovery: config::Recovery, socket: &config::Socket) -> Self {
        Self {
            adapters: RwLock::default(),
            dropped: AtomicU64::new(0),
            sessions: Arc::new(Sessions::new(Capacity {
                packets: socket.send_buffer,
                bytes: socket.send_buffer_bytes.as_usize(),
            })),
            recovery: Arc::new(Common::new(recovery)),
            slow_client: socket.slow_client,
        }
    }

    /// The sessions of the clients.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Counts a packet that found a client's send buffer full, and deals with the client.
    pub(super) fn dropped(&self, client: &Session) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if self.slow_client == SlowClient::Disconnect {
            client.end();
        }
    }

    /// Packets that found a send buffer full, since the start.
    pub fn dropped_emits(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What is kept for clients that come back.
    pub fn recovery(&self) -> &Arc<Common> {
        &self.recovery
    }

    /// A namespace is served from now on.
    pub(super) fn insert(&self, adapter: Arc<Adapter>) {
        let mut adapters = self.adapters.write().expect("no holder panics");
        adapters.insert(adapter.namespace().to_owned(), adapter);
    }

    /// A namespace is served no more.
    pub(super) fn remove(&self, path: &str) {
        let mut adapters = self.adapters.write().expect("no holder panics");
        adapters.remove(path);
    }

    /// How many namespaces are being served.
    pub fn count(&self) -> usize {
        self.adapters.read().expect("no holder panics").len()
    }

    /// The adapters of all namespaces.
    pub fn all(&self) -> Vec<Arc<Adapter>> {
        let adapters = self.adapters.read().expect("no holder panics");
        adapters.values().cloned().collect()
    }

    /// The adapter of a namespace that is being served.
    pub fn get(&self, path: &str) -> Option<Arc<Adapter>> {
        let adapters = self.adapters.read().expect("no holder panics");
        adapters.get(path).cloned()
    }
}
