//! All namespaces that are being served, and what their clients have in common.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use ahash::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{
    adapter::Adapter,
    rooms::MaxRooms,
    unopened::{Broadcasted, Unopened},
};
use crate::{
    cluster::{Cluster, EntryId},
    config::{self, SlowClient},
    presence::Presence,
    recovery::Common,
    transport::engine::{EndReason, Ended, Policy, Session, Sessions},
};

/// The adapters of all namespaces by path.
pub struct Namespaces {
    adapters: RwLock<HashMap<Box<str>, Arc<Adapter>>>,
    dropped: Arc<Dropped>,
    sessions: Arc<Sessions>,
    recovery: Arc<Common>,
    presence: Arc<Presence>,
    max_rooms: MaxRooms,
    cluster: Option<Arc<Cluster>>,
    /// Held while one is opened, so that it has all that is read.
    unopened: Mutex<Unopened>,
    /// Seen when one is opened or closed.
    changed: watch::Sender<()>,
    /// The one that the host serves itself, with connections of its own.
    host: OnceLock<Box<str>>,
}

/// What becomes of packets that find a client's send buffer full.
pub(crate) struct Dropped {
    packets: AtomicU64,
    slow_client: SlowClient,
}

impl Dropped {
    /// Counts a packet, and deals with its client.
    pub(crate) fn count(&self, client: &Arc<Session>) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        if self.slow_client == SlowClient::Disconnect {
            client.end(EndReason::TransportClose);
        }
    }
}

impl Namespaces {
    /// No namespaces yet, on a server on its own or of a cluster.
    pub(crate) fn new(
        recovery: config::Recovery,
        presence: config::Presence,
        socket: &config::Socket,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        Self {
            adapters: RwLock::default(),
            dropped: Arc::new(Dropped {
                packets: AtomicU64::new(0),
                slow_client: socket.slow_client,
            }),
            sessions: Arc::new(Sessions::new(Policy::new(socket))),
            presence: Arc::new(Presence::new(
                presence,
                &recovery,
                cluster.as_deref().map(Cluster::name),
            )),
            unopened: Mutex::new(Unopened::new(
                recovery.max_events,
                recovery.max_bytes.as_usize(),
            )),
            recovery: Arc::new(Common::new(recovery, cluster.is_some())),
            max_rooms: MaxRooms(socket.max_rooms),
            cluster,
            changed: watch::Sender::new(()),
            host: OnceLock::new(),
        }
    }

    /// From now on the host serves this one itself, once and for all.
    pub(crate) fn keep_for_host(&self, path: &str) {
        self.host.get_or_init(|| path.into());
    }

    /// Whether the host serves it itself.
    pub(crate) fn is_hosts(&self, path: &str) -> bool {
        self.host.get().is_some_and(|own| **own == *path)
    }

    /// The sessions of the clients.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Packets that found a send buffer full, since the start.
    pub fn dropped_emits(&self) -> u64 {
        self.dropped.packets.load(Ordering::Relaxed)
    }

    /// What is kept for clients that come back.
    pub fn recovery(&self) -> &Arc<Common> {
        &self.recovery
    }

    /// Who is present in rooms.
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// A namespace is served from now on.
    pub fn open(&self, path: &str) {
        let presence = self.presence.clone();
        let dropped = self.dropped.clone();
        let (max_rooms, cluster) = (self.max_rooms, self.cluster.clone());
        let adapter = Adapter::new(path, &self.recovery, presence, dropped, max_rooms, cluster);
        let adapter = Arc::new(adapter);
        let mut unopened = self.unopened.lock();
        let (first, sent) = unopened.open(path, self.recovery.next_number());
        adapter.start_at(EntryId::from_number(first));
        for it in sent {
            adapter.remember(it.id, it.to, &it.event, it.message);
        }
        self.adapters.write().insert(path.into(), adapter);
        drop(unopened);
        self.changed.send_replace(());
    }

    /// A namespace is served no more. Its connections have ended and are to be told.
    pub(crate) fn close(&self, path: &str) -> Vec<Ended> {
        let adapter = {
            let mut unopened = self.unopened.lock();
            let adapter = self.adapters.write().remove(path);
            if self.cluster.is_some() {
                unopened.close(path, self.recovery.next_number());
            }
            adapter
        };
        self.changed.send_replace(());
        adapter.map_or_else(Vec::new, |adapter| adapter.end_connections())
    }

    /// All entries of the cluster's stream from this number on follow, or from whatever comes next, and none before it
    /// is known.
    pub(crate) fn begin(&self, first: Option<u64>) {
        self.unopened.lock().begin(first);
    }

    /// What was broadcast in a namespace that was not open when that was looked at. If it is by now, its adapter has to
    /// have that, and is returned with it.
    pub(crate) fn keep_unopened(
        &self,
        namespace: &str,
        broadcasted: Broadcasted,
    ) -> Option<(Arc<Adapter>, Broadcasted)> {
        let mut unopened = self.unopened.lock();
        if let Some(adapter) = self.get(namespace) {
            return Some((adapter, broadcasted));
        }
        unopened.keep(namespace, broadcasted);
        None
    }

    /// Seen when one is opened or closed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// How many namespaces are being served.
    pub fn count(&self) -> usize {
        self.adapters.read().len()
    }

    /// The adapters of all namespaces.
    pub fn all(&self) -> Vec<Arc<Adapter>> {
        self.adapters.read().values().cloned().collect()
    }

    /// The adapter of a namespace that is being served.
    pub fn get(&self, path: &str) -> Option<Arc<Adapter>> {
        self.adapters.read().get(path).cloned()
    }
}
