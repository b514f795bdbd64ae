//! The server: everything put together, from a configuration to a port that answers.

mod addresses;
mod builder;
mod check;
mod core;
mod drain;
mod headless;
mod hsts;
mod members;
mod origins;
mod port;
mod redirect;
mod rest;
mod start_error;
mod tasks;
#[cfg(test)]
mod tests;
mod upgrade;

pub(crate) use check::{check, contracts};
pub(crate) use core::start_engine;
pub(crate) use drain::Phase;
pub(crate) use headless::{Headless, Outside, Restless};
pub(crate) use port::Inherited;
pub(crate) use rest::Rest;
pub(crate) use upgrade::{Request as UpgradeRequest, Upgrade};
pub use {builder::Builder, drain::Drain, start_error::StartError};

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::Router;
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    drain::SendAway,
    tasks::{
        Accept, EndRevoked, EndWithTokens, FollowNamespaces, Reload, Settle, Sweep, TellPresence,
    },
};
use crate::{
    admin::TellPages,
    api::LocalKey,
    audit::Entry,
    auth::{FetchKeys, Providers},
    broadcast::Broadcast,
    cluster::Cluster,
    config::{self, Config},
    connection::Connection,
    directory::Directory,
    dispatch::{Dispatcher, Timers},
    handover::Handover,
    metrics::Metrics,
    native,
    reload::{Reloader, Request},
    revocation::Revocations,
    socket::Sockets,
    tasks::Tasks,
    telemetry::{Exporter, Families},
    tls::Identity,
    transport::{Connections, Listener, Sessions},
};
pub use crate::{
    reload::{ConfigSource, Status},
    tasks::TaskFailed,
    tls::CertificateError,
};

/// How long the end of the connections may take at shutdown, plugins' hooks included.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(5);

/// A server that is bound and has its plugins loaded.
pub struct Server {
    address: SocketAddr,
    listener: Listener,
    redirect: Option<redirect::Redirecting>,
    is_secure: bool,
    request_timeout: Duration,
    router: Router,
    directory: Arc<Directory>,
    sessions: Arc<Sessions>,
    /// Sessions know it as long as it is here.
    sockets: Arc<Sockets>,
    native: Vec<Arc<native::Front>>,
    dispatcher: Arc<Dispatcher>,
    reloader: Reloader,
    reload_requests: (mpsc::Sender<Request>, mpsc::Receiver<Request>),
    published: watch::Sender<()>,
    cluster: Option<Arc<Cluster>>,
    /// Whose keys are fetched.
    providers: Arc<Providers>,
    /// Tokens that are good no more.
    revocations: Arc<Revocations>,
    /// Tells the pages of `[admin]`.
    pages: Option<TellPages>,
    /// Sends traces and metrics, and what these are.
    exporter: Option<(Exporter, Families)>,
    secret: Arc<[u8]>,
    local_key: LocalKey,
    drain: Drain,
    /// None if nothing is left to the process that follows.
    handover: Option<Handover>,
    shutdown: config::Shutdown,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Server {
    /// Binds and loads all plugins. A plugin that is refused does not keep the others from
    /// serving. `source` is where the configuration came from, to follow its changes.
    pub async fn start(config: Config, source: Option<ConfigSource>) -> Result<Self, StartError> {
        let builder = Self::builder(config);
        let builder = match source {
            Some(source) => builder.follow(source),
            None => builder,
        };
        builder.start().await
    }

    /// A server with handlers or routes of the program that embeds it.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, as a URL: by HTTPS where there is a certificate.
    pub fn url(&self) -> String {
        let scheme = match self.is_secure {
            true => "https",
            false => "http",
        };
        format!("{scheme}://{}", self.address)
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The four primitives, for Rust programs that embed the server.
    pub fn broadcast(&self) -> Broadcast {
        self.dispatcher.broadcast.clone()
    }

    /// What tokens are signed with: `JWT_SECRET`, or a secret made for this run.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The key that this machine's command line uses, made for this run.
    pub(crate) fn local_key(&self) -> &str {
        self.local_key.key()
    }

    /// What is counted, for who has more to show at `/metrics`.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.dispatcher.metrics
    }

    /// The state of the plugins; always the latest.
    pub fn status(&self) -> Arc<ArcSwap<Status>> {
        self.reloader.status()
    }

    /// Asks for a look at all files, as SIGHUP does.
    pub(crate) fn reload_requests(&self) -> mpsc::Sender<Request> {
        self.reload_requests.0.clone()
    }

    /// The sockets that clients come to, as long as they are open.
    pub(crate) fn sockets(&self) -> Vec<Weak<TcpListener>> {
        let redirect = self.redirect.iter().map(|redirect| redirect.socket());
        std::iter::once(self.listener.socket())
            .chain(redirect)
            .collect()
    }

    /// Has it leave before it is shut down, so that its clients come back elsewhere.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Serves until `shutdown`, then: no new connections, the hooks of those that are open, and
    /// their end. Clients see the transport close and may reconnect. An error says why the server
    /// could not wait for the `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), TaskFailed> {
        let (result, rest) = self.run_and_let_go(shutdown).await;
        rest.end().await;
        result
    }

    /// The same, but for the [`Rest`]: when it has let go of everything, whoever follows does not wait for that.
    pub(crate) async fn run_and_let_go(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> (Result<(), TaskFailed>, Rest) {
        let Self {
            directory,
            sessions,
            sockets,
            native,
            dispatcher,
            mut tasks,
            stop,
            ..
        } = self;
        let connections = Connections::default();
        let exporting = self.exporter.map(|(it, families)| it.start(families));
        tasks.spawn(Reload {
            reloader: self.reloader,
            requests: self.reload_requests.1,
        });
        tasks.spawn(FollowNamespaces {
            directory: directory.clone(),
            published: self.published.subscribe(),
        });
        tasks.spawn(FetchKeys(self.providers));
        tasks.spawn(EndWithTokens(dispatcher.clone()));
        tasks.spawn(EndRevoked(dispatcher.clone(), self.revocations));
        tasks.spawn(TellPresence(dispatcher.broadcast.clone()));
        let (drain, config) = (self.drain, self.shutdown);
        let accepting = drain.accepting();
        let (its, fronts) = (dispatcher.clone(), native.clone());
        tasks.spawn(SendAway::new(drain, &config, its, fronts));
        tasks.spawn(Sweep(sessions.clone()));
        tasks.spawn(Settle(dispatcher.store.clone()));
        let published = self.published.subscribe();
        tasks.spawn(Timers::new(dispatcher.clone(), published));
        if let Some(pages) = self.pages {
            tasks.spawn(pages);
        }
        if let Some(cluster) = &self.cluster {
            members::spawn(&tasks, cluster, &sockets);
        }
        tasks.spawn(Accept {
            cluster: self.cluster.clone(),
            listener: self.listener,
            router: self.router,
            request_timeout: self.request_timeout,
            accepting: accepting.clone(),
            connections: connections.clone(),
        });
        if let Some(redirect) = self.redirect {
            tasks.spawn(redirect.task(self.request_timeout, accepting, connections.clone()));
        }

        let result = tokio::select! {
            () = shutdown => Ok(()),
            failed = tasks.failure() => Err(failed),
        };
        tracing::info!("shutting down");
        stop.cancel();
        let clients = dispatcher.connections.all();
        let ended = async {
            native.iter().for_each(|front| front.close());
            dispatcher.shut_down().await;
            let store = dispatcher.store.clone();
            if let Err(error) = spawn_blocking(move || store.close()).await {
                tracing::error!("the store was not closed: {error}");
            }
            sessions.close();
            if let Some(cluster) = &self.cluster {
                // What became of their clients is for other servers.
                until_ended(&clients).await;
                dispatcher.broadcast.send_presence();
                cluster.close().await;
            }
            dispatcher.broadcast.native().ended().await;
            tasks.ended().await;
            connections.handled().await;
            until_ended(&clients).await;
        };
        let deadline = Instant::now() + SHUTDOWN_DEADLINE;
        let ended = timeout_at(deadline, ended).await.is_ok();
        if !ended {
            tracing::warn!("some connections did not end in time");
        }
        if let Some(handover) = self.handover {
            hand_over(handover, ended).await;
        }
        dispatcher.audit.write(|| Entry::Stopped {
            process: std::process::id(),
        });
        drop((sockets, native));
        let rest = Rest {
            connections,
            deadline,
            exporting: exporting.filter(|_| ended),
        };
        (result, rest)
    }
}

/// Leaves what there is to the process that follows, if everything has `ended`: what happens still would
/// be missing there.
async fn hand_over(handover: Handover, ended: bool) {
    if !ended {
        tracing::warn!("nothing is left to the process that follows: clients start afresh");
    } else if let Err(error) = spawn_blocking(move || handover.give()).await {
        tracing::error!("nothing is left to the process that follows: {error}");
    }
}

/// Waits until connections have ended, which happens in tasks of their own.
async fn until_ended(connections: &[Arc<Connection>]) {
    for connection in connections {
        while !connection.has_ended() {
            sleep(LOOK).await;
        }
    }
}

/// Reads what clients are shown, where there is TLS.
async fn identity(config: &Config) -> Result<Option<Identity>, StartError> {
    match config.tls.clone() {
        Some(tls) => Ok(Some(Identity::read(tls).await?)),
        None => Ok(None),
    }
}

/// Warns where the process may not have as many files open as there may be connections.
fn warn_of_few_files(max_connections: usize) {
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return;
    };
    if files < max_connections as u64 {
        tracing::warn!(
            files,
            max_connections,
            "the process may not open as many files as there may be connections: raise its limit \
             (`ulimit -n`), or lower `socket.max_connections`"
        );
    }
}

/// The configured secret, or one for this run.
fn secret(config: &Config) -> Arc<[u8]> {
    match &config.auth.secret {
        Some(secret) => secret.expose().as_bytes().into(),
        None => random_word().into_bytes().into(),
    }
}

/// 256 random bits as text.
fn random_word() -> String {
    format!(
        "{:032x}{:032x}",
        rand::random::<u128>(),
        rand::random::<u128>()
    )
}
