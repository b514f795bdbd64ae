//! Which namespaces are open: those that plugins name, as they come and go, and those that match
//! a plugin's pattern, as clients ask for them.
//!
//! Everything is opened and closed under one lock: to register a path twice, or to delete it while
//! somebody is let in, would leave clients behind that believe to be connected.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use parking_lot::{Mutex, MutexGuard};
use socketioxide::SocketIo;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    memory::{self, Crowd},
    registry::Registry,
    socket::{Handlers, MAIN_NAMESPACE},
    transport::{Adapter, Part},
};

/// How often it is looked for what nobody uses any more.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a namespace stays open after somebody asked for it: longer than a CONNECT packet takes
/// from the front to the namespace.
const LINGER: Duration = Duration::from_secs(3);

/// Clients as their memory is given back.
#[derive(Default)]
struct Crowds {
    here: Crowd,
    /// Those that may come back.
    awaited: Crowd,
}

/// The open namespaces.
pub struct Directory {
    io: SocketIo<Adapter>,
    handlers: Handlers,
    /// How many may be open for a pattern's namespace to be opened.
    max: usize,
    /// When each was asked for last.
    open: Mutex<HashMap<String, Instant>>,
}

impl Directory {
    /// A directory with the main namespace. From now on namespaces are opened for clients that ask
    /// for them.
    pub fn new(io: SocketIo<Adapter>, handlers: Handlers, max: usize) -> Arc<Self> {
        let directory = Arc::new(Self {
            io,
            handlers,
            max,
            open: Mutex::default(),
        });
        directory.open(&mut directory.lock(), MAIN_NAMESPACE);
        // Weak: socketioxide holds the sessions.
        let weak = Arc::downgrade(&directory);
        let ask = move |path: &str| weak.upgrade().is_none_or(|directory| directory.ask(path));
        let sessions = directory.handlers.namespaces.sessions();
        sessions.ask_before_connect(Box::new(ask));
        let weak = Arc::downgrade(&directory);
        let keeps = move |part: Part| {
            let directory = weak.upgrade();
            directory.is_some_and(|directory| directory.registry().may_read(part))
        };
        sessions.keep_of_handshakes(Box::new(keeps));
        directory
    }

    /// Keeps in line with what plugins serve, until `stop`.
    pub async fn follow(self: Arc<Self>, published: Arc<Notify>, stop: CancellationToken) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut crowds = Crowds::default();
        loop {
            tokio::select! {
                () = published.notified() => {}
                _ = sweep.tick() => self.sweep(&mut crowds),
                () = stop.cancelled() => return,
            }
            self.settle();
        }
    }

    /// Ends all sockets.
    pub async fn close(&self) {
        self.io.close().await;
    }

    /// A client asks for a namespace. False if it is there no more because too many are open.
    fn ask(&self, path: &str) -> bool {
        let mut open = self.lock();
        if let Some(asked) = open.get_mut(path) {
            *asked = Instant::now();
            return true;
        }
        let registry = self.registry();
        if !registry.serves(path) {
            // socketioxide says so.
            return true;
        }
        if open.len() >= self.max && !registry.names(path) {
            return false;
        }
        self.open(&mut open, path);
        true
    }

    /// Opens what plugins name, closes what they no longer serve and what nobody uses.
    pub fn settle(&self) {
        let mut open = self.lock();
        let registry = self.registry();
        for path in registry.namespaces() {
            if !open.contains_key(path) {
                self.open(&mut open, path);
            }
        }
        open.retain(|path, asked| {
            let is_wanted = path == MAIN_NAMESPACE
                || registry.names(path)
                || (registry.serves(path) && (asked.elapsed() < LINGER || self.is_used(path)));
            if !is_wanted {
                self.end(path);
            }
            is_wanted
        });
    }

    /// Gives back what was kept for clients, also where nothing happens any more.
    fn sweep(&self, crowds: &mut Crowds) {
        let namespaces = &self.handlers.namespaces;
        let awaited = namespaces.all().iter().map(|adapter| adapter.sweep()).sum();
        namespaces.recovery().share_out();
        let have_left = crowds.here.has_left(namespaces.sessions().count());
        if crowds.awaited.has_left(awaited) || have_left {
            // Ends in some milliseconds, and nobody waits for it.
            spawn_blocking(memory::give_back);
        }
    }

    fn is_used(&self, path: &str) -> bool {
        let adapter = self.handlers.namespaces.get(path);
        adapter.is_some_and(|adapter| adapter.is_used())
    }

    fn open(&self, open: &mut HashMap<String, Instant>, path: &str) {
        self.io.ns(path.to_owned(), self.handlers.clone());
        open.insert(path.to_owned(), Instant::now());
    }

    fn end(&self, path: &str) {
        if let Some(namespace) = self.io.of(path) {
            // Deleting alone would leave clients believing that they are connected. Nobody else's
            // server has to be asked, so it never waits.
            if let Some(Err(error)) = namespace.disconnect().now_or_never() {
                tracing::warn!(namespace = path, %error, "some clients were not told of its end");
            }
            self.io.delete_ns(path);
        }
    }

    fn registry(&self) -> arc_swap::Guard<Arc<Registry>> {
        self.handlers.dispatcher.registry.load()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.open.lock()
    }
}
