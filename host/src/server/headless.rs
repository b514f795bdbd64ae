//! A server without a port, whose clients are in this process: for `mixlab call` and `mixlab test`, to which
//! plugins behave as they do behind one.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    task::{spawn_blocking, yield_now},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    StartError,
    core::{Around, Core},
    secret,
    tasks::{Settle, TellPresence},
};
use crate::{
    audit::Audit,
    clock,
    config::{self, Config},
    directory::Directory,
    dispatch::{Dispatcher, Timers},
    http_client::{Canned, HttpClient},
    plugin::{Engine, Witness},
    reload::{Status, pull_missing},
    socket::Sockets,
    store::Store,
    tasks::Tasks,
    timers::{self, Clock, Listed},
    transport::{Door, Namespaces, Session, Sessions},
};

/// How long it may take until nothing is under way any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether something is.
const LOOK: Duration = Duration::from_millis(1);

/// A server without a port. To be used on a runtime with one thread, where it stands still whenever somebody
/// looks at it.
pub(crate) struct Headless {
    /// The way of events.
    pub dispatcher: Arc<Dispatcher>,
    /// How the plugins stand.
    pub status: Arc<Status>,
    /// The namespaces that there are.
    pub namespaces: Arc<Namespaces>,
    sessions: Arc<Sessions>,
    /// Sessions know it as long as it is here.
    _sockets: Arc<Sockets>,
    clock: Arc<Clock>,
    tasks: Tasks,
    stop: CancellationToken,
}

/// What is other around it than around a server with a port.
pub(crate) struct Outside {
    /// What runs plugins.
    pub engine: Arc<Engine>,
    /// What other servers answer.
    pub http: Arc<Canned>,
    /// Who looks at each call.
    pub witness: Arc<Witness>,
}

/// Something goes on without an end.
#[derive(Debug, thiserror::Error)]
#[error("it does not come to rest: {0} is under way after {PATIENCE:?}")]
pub(crate) struct Restless(&'static str);

impl Headless {
    /// Loads the plugins. Nothing is left of what they store.
    pub(crate) async fn start(config: &Config, outside: Outside) -> Result<Self, StartError> {
        let Outside {
            engine,
            http,
            witness,
        } = outside;
        pull_missing(config).await.map_err(StartError::NotPulled)?;
        // Its clients are in this process, and read text.
        let mut config = config.clone();
        config.socket.parser = config::Parser::Json;
        let config = &config;
        let around = Around {
            engine,
            store: Store::new(config::Store {
                on: Some(config::StoreOn::Disk),
                durability: config::Durability::Trial,
                ..config.store.clone()
            }),
            audit: Audit::default(),
            cluster: None,
            tls: None,
            http: HttpClient::canned(http),
            witness: Some(witness),
            recorder: None,
            telemetry: config::Telemetry::default(),
        };
        let Core {
            namespaces,
            dispatcher,
            mut reloader,
            published,
            cluster: _,
            providers: _,
            revocations: _,
            admin: _,
            exporter: _,
        } = Core::new(config, None, secret(config), around);
        let directory = Directory::new(dispatcher.clone(), namespaces.clone(), &config.socket);
        let sockets = Arc::new(Sockets {
            dispatcher: dispatcher.clone(),
            directory: directory.clone(),
            admin: None,
        });
        let sessions = namespaces.sessions().clone();
        let door: Arc<dyn Door> = sockets.clone();
        sessions.open_door(Arc::downgrade(&door));
        sessions.run_on(Handle::current());
        tokio::select! {
            () = reloader.refresh() => {}
            () = dispatcher.store.settle() => {}
        }
        directory.settle();
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone());
        let mut timers = Timers::new(dispatcher.clone(), published.subscribe());
        tokio::select! {
            // So that those which plugins declare are there before anything happens.
            () = timers.learn() => {}
            () = dispatcher.store.settle() => {}
        }
        let clock = timers.clock();
        tasks.spawn(timers);
        tasks.spawn(Settle(dispatcher.store.clone()));
        tasks.spawn(TellPresence(dispatcher.broadcast.clone()));
        Ok(Self {
            dispatcher,
            status: reloader.status().load_full(),
            namespaces,
            sessions,
            _sockets: sockets,
            clock,
            tasks,
            stop,
        })
    }

    /// Begins the session of a client that polls. None if there may be no more.
    pub(crate) fn begin_session(&self) -> Option<Arc<Session>> {
        let address = std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into();
        self.sessions.begin(address, None).ok()
    }

    /// The timers of the plugins.
    pub(crate) fn timers(&self) -> Vec<Listed> {
        let registry = self.dispatcher.registry.load();
        // One that is in memory can be read, and at once.
        let listed = timers::list(&self.dispatcher.store, registry.timed().keys());
        listed
            .now_or_never()
            .and_then(Result::ok)
            .unwrap_or_default()
    }

    /// Waits until nothing is under way, nor due.
    pub(crate) async fn rest(&self) -> Result<(), Restless> {
        self.rest_after(|| {}).await
    }

    /// The same, where clients have something to do `meanwhile`.
    pub(crate) async fn rest_after(&self, mut meanwhile: impl FnMut()) -> Result<(), Restless> {
        let until = Instant::now() + PATIENCE;
        // Whoever has something to do that nobody sees yet, does it now.
        yield_now().await;
        while let Some(what) = self.under_way() {
            if Instant::now() > until {
                return Err(Restless(what));
            }
            meanwhile();
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn under_way(&self) -> Option<&'static str> {
        let now = clock::now();
        if !self.dispatcher.tasks.is_empty() {
            Some("a call")
        } else if self.timers().iter().any(|timer| timer.is_due(now)) {
            Some("a timer")
        } else if self.dispatcher.broadcast.presence().has_news() {
            Some("news of who is present")
        } else {
            None
        }
    }

    /// Moves the clock on by so much. Each timer that is due meanwhile is called at its time.
    pub(crate) async fn advance(&self, by: Duration) -> Result<(), Restless> {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let end = clock::now().saturating_add(by);
        loop {
            let timers = self.timers();
            let next = timers.iter().filter_map(Listed::next).min();
            let next = next.filter(|at| *at <= end);
            clock::hold(next.unwrap_or(end));
            self.clock.has_moved();
            self.rest().await?;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// Ends all that runs for it.
    pub(crate) async fn close(self) {
        self.dispatcher.shut_down().await;
        self.stop.cancel();
        let store = self.dispatcher.store.clone();
        // What it was to keep is of no interest any more.
        let _ = spawn_blocking(move || store.close()).await;
        self.sessions.close();
        self.tasks.ended().await;
    }
}
