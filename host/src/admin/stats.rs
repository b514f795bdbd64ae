//! How the server stands, as pages are told it.

use std::{
    fs,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::Serialize;

use crate::transport::{Census, Namespaces};

/// Of more namespaces, those with the fewest sockets are left out.
const MAX_NAMESPACES: usize = 1000;

/// What is told comes from here.
pub(super) struct Stats {
    namespaces: Arc<Namespaces>,
    began: Instant,
    hostname: String,
    /// What had happened when it was told last.
    told: Mutex<Happened>,
}

/// The argument of `server_stats`, in Node's words.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerStats {
    server_id: String,
    hostname: String,
    pid: u32,
    /// In seconds.
    uptime: f64,
    clients_count: usize,
    polling_clients_count: usize,
    aggregated_events: Vec<AggregatedEvent>,
    namespaces: Vec<NamespaceStats>,
}

/// So many things of a kind that happened at a time, in milliseconds since 1970.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedEvent {
    timestamp: u64,
    r#type: &'static str,
    count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceStats {
    name: String,
    sockets_count: usize,
}

/// What has happened since the start.
#[derive(Default, Clone, Copy)]
struct Happened {
    connections: u64,
    disconnections: u64,
}

impl From<&Census> for Happened {
    fn from(census: &Census) -> Self {
        Self {
            connections: census.begun,
            disconnections: census.begun - census.count as u64,
        }
    }
}

impl Happened {
    /// What has happened since `before`.
    fn since(self, before: Self) -> Vec<AggregatedEvent> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.map_or(0, |since| since.as_secs() * 1000);
        let counted = [
            ("rawConnection", self.connections - before.connections),
            (
                "rawDisconnection",
                self.disconnections - before.disconnections,
            ),
        ];
        let counted = counted.into_iter().filter(|(_, count)| *count > 0);
        let event = |(r#type, count)| AggregatedEvent {
            timestamp,
            r#type,
            count,
        };
        counted.map(event).collect()
    }
}

impl Stats {
    pub(super) fn new(namespaces: Arc<Namespaces>) -> Self {
        Self {
            namespaces,
            began: Instant::now(),
            hostname: hostname(),
            told: Mutex::default(),
        }
    }

    /// How it stands, for a page that has heard nothing yet; `admin` is the pages' own namespace.
    pub(super) fn now(&self, admin: (&str, usize)) -> ServerStats {
        let census = self.namespaces.sessions().census();
        self.with(Vec::new(), &census, admin)
    }

    /// How it stands, and what has happened since that was told last.
    pub(super) fn since_last(&self, admin: (&str, usize)) -> ServerStats {
        let census = self.namespaces.sessions().census();
        let happened = Happened::from(&census);
        let before = std::mem::replace(&mut *self.told.lock(), happened);
        self.with(happened.since(before), &census, admin)
    }

    /// Nobody is told: what has happened by now is not news for who comes next.
    pub(super) fn pass(&self) {
        *self.told.lock() = Happened::from(&self.namespaces.sessions().census());
    }

    fn with(
        &self,
        aggregated_events: Vec<AggregatedEvent>,
        census: &Census,
        (admin, pages): (&str, usize),
    ) -> ServerStats {
        let pid = std::process::id();
        ServerStats {
            // One machine may have several servers.
            server_id: format!("{}#{pid}", self.hostname),
            hostname: self.hostname.clone(),
            pid,
            uptime: self.began.elapsed().as_secs_f64(),
            clients_count: census.count,
            polling_clients_count: census.polling,
            aggregated_events,
            namespaces: self.open(admin, pages),
        }
    }

    fn open(&self, admin: &str, pages: usize) -> Vec<NamespaceStats> {
        let adapters = self.namespaces.all();
        let sizes = adapters.iter().map(|it| (it.namespace(), it.size()));
        let mut all: Vec<_> = sizes.chain([(admin, pages)]).collect();
        all.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then(a.cmp(b)));
        all.truncate(MAX_NAMESPACES);
        let told = all.into_iter().map(|(name, sockets_count)| NamespaceStats {
            name: name.to_owned(),
            sockets_count,
        });
        told.collect()
    }
}

/// The machine's name, or that of every machine where the system has no file of it.
fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
