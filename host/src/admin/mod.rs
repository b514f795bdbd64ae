//! The namespace of Socket.IO's official admin page (npm `@socket.io/admin-ui`), as Node's `instrument` serves it.
//!
//! Its connections are pages. They are none of the table of connections, so nobody else counts, lists or reaches them,
//! and no plugin is asked about them.

mod command;
mod login;
mod page;
mod sockets;
mod stats;
mod watch;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::watch::Watch;
use self::{
    command::{Command, MAX_WAITING},
    login::{INVALID, Login, told},
    page::{Page, Pages},
    sockets::{HARMLESS_HEADERS, Sockets, Tell},
    stats::Stats,
};
use crate::{
    admission::RateLimits,
    audit::{Audit, Entry},
    broadcast::Broadcast,
    config::{self, AdminMode},
    dispatch::Dispatcher,
    error::{ConnectError, WireError},
    id,
    socket::AuthObject,
    tasks::Task,
    transport::{Namespaces, Part, Receiver, Session},
};

/// How often pages are told how the server stands, as Node's does: a page takes one that is silent for 10 s for ill.
const PERIOD: Duration = Duration::from_secs(2);

/// How often it is looked what is new with single sockets.
const LOOK: Duration = Duration::from_millis(500);

/// What pages may do to sockets, in the protocol's words.
const COMMANDS: [&str; 7] = [
    "EMIT",
    "JOIN",
    "LEAVE",
    "DISCONNECT",
    "MJOIN",
    "MLEAVE",
    "MDISCONNECT",
];

/// The namespace of the admin page.
pub(crate) struct Admin {
    config: config::Admin,
    login: Login,
    pages: Pages,
    stats: Stats,
    /// What pages know of single sockets. Held while they are told, so that each is told everything in order.
    sockets: Mutex<Sockets>,
    watch: Arc<Watch>,
    broadcast: Broadcast,
    audit: Audit,
    commands: mpsc::Sender<Command>,
}

/// The argument of `config`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    supported_features: Vec<&'static str>,
}

impl Admin {
    /// As configured, and what tells its pages.
    pub(crate) fn new(
        config: config::Admin,
        limits: &RateLimits,
        namespaces: &Arc<Namespaces>,
        dispatcher: &Dispatcher,
    ) -> (Arc<Self>, TellPages) {
        let (commands, waiting) = mpsc::channel(MAX_WAITING);
        namespaces.keep_for_host(&config.namespace);
        let admin = Arc::new(Self {
            login: Login::new(&config, limits),
            pages: Pages::new(&config.namespace),
            stats: Stats::new(namespaces.clone()),
            sockets: Mutex::default(),
            watch: dispatcher.watch.clone(),
            broadcast: dispatcher.broadcast.clone(),
            audit: dispatcher.audit.clone(),
            commands,
            config,
        });
        let pages = TellPages {
            admin: admin.clone(),
            commands: waiting,
        };
        (admin, pages)
    }

    /// Whether pages connect to this namespace.
    pub(crate) fn serves(&self, namespace: &str) -> bool {
        self.config.namespace == namespace
    }

    /// Whether pages show a part of what clients say when they come.
    pub(crate) fn shows(&self, part: Part<'_>) -> bool {
        self.shows_sockets()
            && match part {
                Part::Query => true,
                Part::Header(name) => HARMLESS_HEADERS.contains(&name),
                Part::Claim(_) => false,
            }
    }

    fn shows_sockets(&self) -> bool {
        self.config.mode == AdminMode::Development
    }

    /// Lets a page in that knows the password or has a session, or refuses it.
    pub(crate) async fn connect(
        self: Arc<Self>,
        session: Arc<Session>,
        auth: Result<AuthObject, WireError>,
    ) {
        let admitted = match auth {
            Ok(auth) => self.login.admit(&auth.into_json(), session.address).await,
            Err(error) => Err(error.into()),
        };
        let let_in = admitted.and_then(|new| self.let_in(&session, new));
        match let_in {
            Ok(Some(page)) if self.shows_sockets() => {
                let admin = self.clone();
                let showing = spawn_blocking(move || admin.show_sockets(&page, &session));
                if let Err(error) = showing.await {
                    tracing::error!("an admin page does not see sockets: {error}");
                }
            }
            Ok(Some(page)) => self.pages.open(&page, &session),
            Ok(None) => {}
            Err(error) => {
                let (address, namespace) = (session.address, &self.config.namespace);
                let code = match &*error.message {
                    INVALID => "unauthorized",
                    code => code,
                };
                tracing::debug!(%address, code, "an admin page is refused");
                self.audit.client_refused(address, namespace, Some(code));
                session.refuse(namespace, &error);
            }
        }
    }

    /// The page's id, if it is not gone again; `new` is its session, if it has to know of one.
    fn let_in(
        self: &Arc<Self>,
        session: &Arc<Session>,
        new: Option<String>,
    ) -> Result<Option<String>, ConnectError> {
        let id = id::random();
        let page: Arc<dyn Receiver> = Arc::new(Page {
            id: id.clone(),
            admin: self.clone(),
        });
        if !self.pages.expect(&id) {
            let error = WireError::temporary("rate_limited", "too many admin pages are open");
            return Err(told(error));
        }
        if !session.let_in(&self.config.namespace, &page) {
            self.pages.remove(&id);
            return Ok(None);
        }
        let by = match new {
            Some(_) => "password",
            None => "session",
        };
        tracing::info!(page = id, address = %session.address, by, "an admin page is let in");
        self.audit.write(|| Entry::PageAdmitted {
            page: &id,
            address: session.address.ip(),
            by,
        });
        self.pages.introduce(&id, session);
        let it = std::slice::from_ref(session);
        if let Some(new) = new {
            self.pages.emit(it, "session", &new);
        }
        self.pages.emit(it, "config", &self.offer());
        self.pages
            .emit(it, "server_stats", &self.stats.now(self.here()));
        Ok(Some(id))
    }

    fn offer(&self) -> Offer {
        let mut features = Vec::new();
        if !self.config.readonly {
            features.extend(COMMANDS);
        }
        features.push("AGGREGATED_EVENTS");
        if self.shows_sockets() {
            features.push("ALL_EVENTS");
        }
        Offer {
            supported_features: features,
        }
    }

    /// Its own namespace, as one of those that are told of.
    fn here(&self) -> (&str, usize) {
        (&self.config.namespace, self.pages.count())
    }

    /// Tells all pages how the server stands.
    fn tell(&self) {
        let pages = self.pages.all();
        match pages.is_empty() {
            true => self.stats.pass(),
            false => {
                let stats = self.stats.since_last(self.here());
                self.pages.emit(&pages, "server_stats", &stats);
            }
        }
    }

    /// Tells all pages what is new with single sockets.
    fn look(&self) {
        let mut sockets = self.sockets.lock();
        let pages = self.pages.all();
        self.watch.set(!pages.is_empty());
        match pages.is_empty() {
            true => sockets.forget(),
            false => self.tell_news(&mut sockets, &pages),
        }
    }

    /// Tells a page of all sockets, and from now on of what is new.
    fn show_sockets(&self, page: &str, session: &Arc<Session>) {
        let mut sockets = self.sockets.lock();
        self.watch.set(true);
        self.tell_news(&mut sockets, &self.pages.all());
        let it = std::slice::from_ref(session);
        self.pages.emit(it, "all_sockets", &sockets.all());
        self.pages.open(page, session);
    }

    fn tell_news(&self, sockets: &mut Sockets, to: &[Arc<Session>]) {
        let pages = &self.pages;
        let connections = self.broadcast.connections().all();
        sockets.look(connections, self.watch.take(), &Tell { pages, to });
    }
}

/// Tells pages how the server stands, and does what they want, one after the other.
pub(crate) struct TellPages {
    admin: Arc<Admin>,
    commands: mpsc::Receiver<Command>,
}

impl Task for TellPages {
    const NAME: &'static str = "admin";

    async fn run(&mut self, stop: &CancellationToken) {
        let Self { admin, commands } = self;
        let each = |time| {
            let mut interval = interval(time);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let (mut period, mut look) = (each(PERIOD), each(LOOK));
        loop {
            tokio::select! {
                _ = period.tick() => admin.tell(),
                _ = look.tick(), if admin.shows_sockets() => {
                    let admin = admin.clone();
                    if let Err(error) = spawn_blocking(move || admin.look()).await {
                        tracing::error!("admin pages do not hear of sockets: {error}");
                    }
                }
                Some(command) = commands.recv() => {
                    let broadcast = admin.broadcast.clone();
                    let performing = spawn_blocking(move || command.perform(&broadcast));
                    if let Err(error) = performing.await {
                        tracing::error!("an admin page's command failed: {error}");
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }
}
