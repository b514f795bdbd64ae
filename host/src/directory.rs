//! Which namespaces are open: those that plugins name, as they come and go, and those that match
//! a plugin's pattern, as clients ask for them.
//!
//! Everything is opened and closed under one lock: to open a path twice, or to close it while somebody
//! is let in, would leave clients behind that believe to be connected.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::ClientNetwork,
    config,
    dispatch::Dispatcher,
    memory::{self, Arrivals, Crowd},
    namespace::MAIN_NAMESPACE,
    ordered_lock::{OrderedMutex, OrderedMutexGuard, rank},
    registry::Registry,
    shares::Shares,
    transport::{Adapter, Ended, Namespaces, Sessions},
};

/// How often it is looked for what nobody uses any more.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a namespace stays open after somebody asked for it: longer than it mostly takes to let a
/// client in.
const LINGER: Duration = Duration::from_secs(3);

/// Clients as their memory is given back.
#[derive(Default)]
struct Crowds {
    here: Crowd,
    coming: Arrivals,
    /// Those that may come back.
    awaited: Crowd,
}

/// The open namespaces.
pub(crate) struct Directory {
    dispatcher: Arc<Dispatcher>,
    namespaces: Arc<Namespaces>,
    /// How many may be open for a pattern's namespace to be opened.
    max: usize,
    open: OrderedMutex<{ rank::DIRECTORY }, Open>,
}

/// The namespaces that are open.
struct Open {
    by_path: HashMap<String, Asked>,
    /// Of namespaces that match a pattern.
    shares: Shares,
}

/// Who has asked for a namespace.
struct Asked {
    last: Instant,
    /// Whose share it is of: that of the first to ask, if it matches a pattern.
    first: Option<ClientNetwork>,
}

/// Why a namespace is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Nobody serves it.
    Unknown,
    /// It could be opened if fewer others were.
    TooMany,
}

impl Directory {
    /// A directory with the main namespace.
    pub(crate) fn new(
        dispatcher: Arc<Dispatcher>,
        namespaces: Arc<Namespaces>,
        socket: &config::Socket,
    ) -> Arc<Self> {
        let directory = Arc::new(Self {
            dispatcher,
            namespaces,
            max: socket.max_namespaces,
            open: OrderedMutex::new(Open {
                by_path: HashMap::new(),
                shares: Shares::new(socket.max_namespaces_per_address()),
            }),
        });
        directory.open(&mut directory.lock(), MAIN_NAMESPACE, None);
        directory
    }

    /// Keeps in line with what plugins serve, until `stop`.
    pub(crate) async fn follow(
        self: Arc<Self>,
        mut published: watch::Receiver<()>,
        stop: CancellationToken,
    ) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut crowds = Crowds::default();
        loop {
            tokio::select! {
                Ok(()) = published.changed() => {}
                _ = sweep.tick() => self.sweep(&mut crowds),
                () = stop.cancelled() => return,
            }
            self.settle();
        }
    }

    /// The sessions of all clients.
    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        self.namespaces.sessions()
    }

    /// Whether a namespace is open, or would be for a client that may come in.
    pub(crate) fn knows(&self, path: &str) -> bool {
        self.lock().by_path.contains_key(path) || self.registry().serves(path)
    }

    /// A client of this network that may come in asks for a namespace, or the server itself does.
    pub(crate) fn ask(
        &self,
        path: &str,
        client: Option<ClientNetwork>,
    ) -> Result<Arc<Adapter>, Unopened> {
        let mut open = self.lock();
        match open.by_path.get_mut(path) {
            Some(asked) => asked.last = Instant::now(),
            None => {
                let registry = self.registry();
                if !registry.serves(path) {
                    return Err(Unopened::Unknown);
                }
                let is_named = registry.names(path);
                let first = client.filter(|_| !is_named);
                let is_full = open.by_path.len() >= self.max && !is_named;
                if is_full || first.is_some_and(|client| !open.shares.take(client)) {
                    return Err(Unopened::TooMany);
                }
                self.open(&mut open, path, first);
            }
        }
        self.namespaces.get(path).ok_or(Unopened::Unknown)
    }

    /// Whether a namespace is to be served still, and by this adapter of its.
    pub(crate) fn serves(&self, adapter: &Adapter) -> bool {
        let path = adapter.namespace();
        let is_wanted = || path == MAIN_NAMESPACE || self.registry().serves(path);
        let current = self.namespaces.get(path);
        current.is_some_and(|current| std::ptr::eq(&*current, adapter)) && is_wanted()
    }

    /// Opens what plugins name, closes what they no longer serve and what nobody uses.
    pub(crate) fn settle(&self) {
        // Plugins hear of the ends, and clients are written to: not under the lock.
        self.close_unused().into_iter().for_each(Ended::tell);
    }

    /// Returns the connections to what was closed.
    fn close_unused(&self) -> Vec<Ended> {
        let mut ended = Vec::new();
        let mut open = self.lock();
        let registry = self.registry();
        for path in registry.namespaces() {
            if !open.by_path.contains_key(path) {
                self.open(&mut open, path, None);
            }
        }
        let Open { by_path, shares } = &mut *open;
        by_path.retain(|path, asked| {
            let is_wanted = path == MAIN_NAMESPACE
                || registry.names(path)
                || (registry.serves(path) && (asked.last.elapsed() < LINGER || self.is_used(path)));
            if !is_wanted {
                ended.extend(self.namespaces.close(path));
                if let Some(client) = asked.first {
                    shares.give_back(client);
                }
            }
            is_wanted
        });
        ended
    }

    /// Gives back what was kept for clients, also where nothing happens any more.
    fn sweep(&self, crowds: &mut Crowds) {
        let namespaces = &self.namespaces;
        let awaited = namespaces.all().iter().map(|adapter| adapter.sweep()).sum();
        namespaces.recovery().share_out();
        let clients = namespaces.sessions().count();
        let is_free = [
            crowds.here.has_left(clients),
            crowds.coming.have_settled(clients),
            crowds.awaited.has_left(awaited),
        ];
        if is_free.contains(&true) {
            // Ends in some milliseconds, and nobody waits for it.
            spawn_blocking(memory::give_back);
        }
    }

    fn is_used(&self, path: &str) -> bool {
        let adapter = self.namespaces.get(path);
        adapter.is_some_and(|adapter| adapter.is_used())
    }

    fn open(&self, open: &mut Open, path: &str, first: Option<ClientNetwork>) {
        self.namespaces.open(path);
        let last = Instant::now();
        open.by_path.insert(path.to_owned(), Asked { last, first });
    }

    fn registry(&self) -> arc_swap::Guard<Arc<Registry>> {
        self.dispatcher.registry.load()
    }

    fn lock(&self) -> OrderedMutexGuard<'_, { rank::DIRECTORY }, Open> {
        self.open.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::atomic::{AtomicBool, Ordering},
    };

    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::audit::Audit;
    use crate::{
        address::ClientAddress,
        admission::RateLimits,
        auth::{Providers, RequestToken},
        broadcast::Broadcast,
        config::Config,
        history::History,
        metrics::Metrics,
        settings::Settings,
        store::Store,
        transport::{Door, EndReason, Malformed, Part, Receiver, Session, SocketKey, Task},
    };

    const ROOM: &str = "/room";
    const ID: &str = "id";

    /// Looks into the directory when it hears of its end.
    struct Looks {
        directory: Arc<Directory>,
        has_ended: AtomicBool,
    }

    impl Receiver for Looks {
        fn id(&self) -> &str {
            ID
        }

        fn event(&self, _: &str, _: Vec<Bytes>, _: Option<i64>) -> Result<(), Malformed> {
            unreachable!("the client sends nothing")
        }

        fn oversized(&self, _: &str, _: Option<i64>) -> Result<(), Malformed> {
            unreachable!("the client sends nothing")
        }

        fn acked(&self, _: Option<i64>, _: &str, _: Vec<Bytes>) -> Result<(), Malformed> {
            unreachable!("the client is asked nothing")
        }

        fn ended(&self, _: EndReason) {
            assert!(!self.directory.knows(ROOM));
            self.has_ended.store(true, Ordering::Relaxed);
        }
    }

    /// Who is let in, the test decides.
    struct Open;

    impl Door for Open {
        fn keeps(&self, _: Part<'_>) -> bool {
            false
        }

        fn token(&self, _: &HeaderMap) -> Option<RequestToken> {
            None
        }

        fn admit(&self, peer: IpAddr, _: &HeaderMap) -> Result<ClientAddress, Duration> {
            Ok(peer.into())
        }

        fn connect(self: Arc<Self>, _: Arc<Session>, _: &str, _: &str) -> Result<Task, Malformed> {
            Ok(Box::pin(async {}))
        }
    }

    #[test]
    fn who_hears_of_the_end_of_a_namespace_may_look_into_the_directory() {
        let namespaces = Arc::new(Namespaces::new(
            config::Recovery::default(),
            config::Presence::default(),
            &config::Socket::default(),
            None,
        ));
        let metrics: Arc<Metrics> = Arc::default();
        let limits = Arc::new(RateLimits::new(metrics.clone()));
        let dispatcher = Dispatcher::new(
            Settings::new(
                &Config::default(),
                b"secret",
                &limits,
                &Providers::none(),
                &Arc::default(),
            ),
            Broadcast::new(
                namespaces.clone(),
                Arc::new(History::new(config::History::default())),
                None,
            ),
            metrics,
            Audit::default(),
            Store::new(config::Store::in_memory()),
        );
        let directory = Directory::new(dispatcher, namespaces.clone(), &config::Socket::default());
        let door: Arc<dyn Door> = Arc::new(Open);
        namespaces.sessions().open_door(Arc::downgrade(&door));

        // Nobody serves it.
        directory.open(&mut directory.lock(), ROOM, None);
        let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
        let session = namespaces.sessions().begin(address, None).unwrap();
        session.receive(&format!("40{ROOM},")).unwrap();
        let looks = Arc::new(Looks {
            directory: directory.clone(),
            has_ended: AtomicBool::new(false),
        });
        let receiver: Arc<dyn Receiver> = looks.clone();
        assert!(session.let_in(ROOM, &receiver));
        let adapter = namespaces.get(ROOM).unwrap();
        adapter.enter(SocketKey::new(session.id), ID, None, &session);

        directory.settle();
        assert!(looks.has_ended.load(Ordering::Relaxed));
    }
}
