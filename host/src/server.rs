//! The server: everything put together, from a configuration to a port that answers.

mod builder;
mod drain;
mod headless;
mod hsts;
mod members;
mod origins;
mod port;
mod redirect;
#[cfg(test)]
mod tests;
mod upgrade;

pub(crate) use drain::Phase;
pub(crate) use headless::{Headless, Outside, Restless};
pub(crate) use port::Inherited;
pub(crate) use upgrade::{Request as UpgradeRequest, Upgrade};
pub use {builder::Builder, drain::Drain};

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use self::{drain::SendAway, port::Port};
use arc_swap::ArcSwap;
use axum::Router;
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::{Admin, TellPages},
    admission::RateLimits,
    api::LocalKey,
    audit::{Audit, Entry},
    auth::{FetchKeys, Providers},
    broadcast::Broadcast,
    cluster::Cluster,
    config::{self, Config, HOW_TO_MAKE_ONE, Listen, MIN_JWT_SECRET_BYTES},
    connection::Connection,
    contracts::Contracts,
    directory::Directory,
    dispatch::{Dispatcher, Timers},
    handover::Handover,
    history::History,
    http_client::HttpClient,
    metrics::Metrics,
    native,
    plugin::{Engine, Services, Witness},
    record::Recorder,
    reload::{PluginStatus, Reloader, Request, Targets, pull_missing},
    revocation::Revocations,
    settings::Settings,
    socket::Sockets,
    store::Store,
    tasks::{Task, Tasks},
    telemetry::{self, Exporter, Exporting, Families},
    tls::{self, Identity},
    transport::{Listener, Namespaces, Sessions, serve},
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

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

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

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody could tell a good token from a forged one.
    #[error(
        "{0} can be reached from other machines and JWT_SECRET is not set: set it, or listen on \
         127.0.0.1"
    )]
    NoSecret(SocketAddr),
    /// Everybody could forge tokens who tries enough secrets.
    #[error(
        "{0} can be reached from other machines and JWT_SECRET has less than {MIN_JWT_SECRET_BYTES} \
         bytes (RFC 7518, section 3.2): {HOW_TO_MAKE_ONE}; or listen on 127.0.0.1"
    )]
    ShortSecret(SocketAddr),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Clients cannot be shown who the server is.
    #[error("[tls] {0}")]
    Tls(#[from] CertificateError),
    /// A plugin that is loaded once does not come from where it is.
    #[error("{0}")]
    NotPulled(String),
    /// What is to be written down could not be.
    #[error("the audit log {}: {source}", path.display())]
    Audit {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The WebAssembly engine does not start on this machine.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The program that embeds the server has built a native endpoint that cannot be served.
    #[error("the native endpoint {path:?} cannot be served: {source}")]
    Native {
        /// As it was given.
        path: String,
        /// Why.
        source: native::EndpointError,
    },
    /// A path is there twice: an endpoint's path is one of the host's own, or a route of the program that
    /// embeds the server is.
    #[error("{what} cannot be served beside the others: {reason}")]
    Routes {
        /// Whose routes.
        what: String,
        /// In axum's words.
        reason: String,
    },
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
        let (result, exporting) = self.run_and_let_go(shutdown).await;
        if let Some(exporting) = exporting {
            exporting.end().await;
        }
        result
    }

    /// The same, but for the last spans and metrics: when it has let go of everything, whoever follows does not wait
    /// for them. There is nobody to send them if the end took all its time.
    pub(crate) async fn run_and_let_go(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> (Result<(), TaskFailed>, Option<Exporting>) {
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
        let connections = TaskTracker::new();
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
            connections.close();
            connections.wait().await;
            until_ended(&clients).await;
        };
        let ended = timeout(SHUTDOWN_DEADLINE, ended).await.is_ok();
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
        (result, exporting.filter(|_| ended))
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

/// Keeps plugins and `mixlab.toml` current.
struct Reload {
    reloader: Reloader,
    requests: mpsc::Receiver<Request>,
}

impl Task for Reload {
    const NAME: &'static str = "reload";

    async fn run(&mut self, stop: &CancellationToken) {
        self.reloader.run(&mut self.requests, stop).await;
    }
}

/// Opens and closes namespaces.
struct FollowNamespaces {
    directory: Arc<Directory>,
    published: watch::Receiver<()>,
}

impl Task for FollowNamespaces {
    const NAME: &'static str = "namespaces";

    async fn run(&mut self, stop: &CancellationToken) {
        let directory = self.directory.clone();
        directory.follow(self.published.clone(), stop.clone()).await;
    }
}

/// Ends connections with the tokens of their users.
struct EndWithTokens(Arc<Dispatcher>);

impl Task for EndWithTokens {
    const NAME: &'static str = "tokens";

    async fn run(&mut self, stop: &CancellationToken) {
        self.0.clone().end_with_tokens(stop.clone()).await;
    }
}

/// Ends connections whose tokens are revoked.
struct EndRevoked(Arc<Dispatcher>, Arc<Revocations>);

impl Task for EndRevoked {
    const NAME: &'static str = "revocations";

    async fn run(&mut self, stop: &CancellationToken) {
        let Self(dispatcher, revocations) = self;
        let ending = dispatcher
            .clone()
            .end_revoked(revocations.clone(), stop.clone());
        ending.await;
    }
}

/// Tells rooms who is present in them.
struct TellPresence(Broadcast);

impl Task for TellPresence {
    const NAME: &'static str = "presence";

    async fn run(&mut self, stop: &CancellationToken) {
        self.0.tell_presence(stop).await;
    }
}

/// Keeps the time of all sessions.
struct Sweep(Arc<Sessions>);

impl Task for Sweep {
    const NAME: &'static str = "sessions";

    async fn run(&mut self, stop: &CancellationToken) {
        // What is due once the server stops is its end.
        tokio::select! {
            () = self.0.sweep.run() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Performs what follows commits to the store.
struct Settle(Arc<Store>);

impl Task for Settle {
    const NAME: &'static str = "store";

    async fn run(&mut self, _stop: &CancellationToken) {
        // Calls that are under way when the server stops are committed still.
        self.0.settle().await;
    }
}

/// Lets clients in. When it ends, the port is closed.
struct Accept {
    listener: Listener,
    router: Router,
    request_timeout: Duration,
    /// Until this is cancelled.
    accepting: CancellationToken,
    connections: TaskTracker,
}

impl Task for Accept {
    const NAME: &'static str = "accept";

    async fn run(&mut self, stop: &CancellationToken) {
        let Self {
            listener,
            router,
            request_timeout,
            accepting,
            connections,
        } = self;
        let ends = (&*accepting, stop);
        serve(listener, router, *request_timeout, ends, connections).await;
        stop.cancelled().await;
    }
}

/// What a server has around it.
struct Around {
    engine: Arc<Engine>,
    /// What plugins remember.
    store: Arc<Store>,
    /// Who changed what, and who was refused.
    audit: Audit,
    cluster: Option<Arc<Cluster>>,
    tls: Option<tls::Current>,
    /// What plugins send requests with.
    http: HttpClient,
    /// Who looks at each call, if somebody does.
    witness: Option<Arc<Witness>>,
    /// Writes down each call, if somebody does.
    recorder: Option<Arc<Recorder>>,
    /// Where traces and metrics go, if they do.
    telemetry: config::Telemetry,
}

impl Around {
    /// What a server has without others and without certificates.
    fn alone(config: &Config) -> Result<Self, StartError> {
        Ok(Self {
            engine: start_engine(&config.runtime)?,
            store: Store::of_server(config.store.clone(), &config.cluster),
            audit: Audit::default(),
            cluster: None,
            tls: None,
            http: HttpClient::on_this_runtime(),
            witness: None,
            recorder: None,
            telemetry: config::Telemetry::default(),
        })
    }
}

/// Starts what runs plugins.
pub(crate) fn start_engine(config: &config::Runtime) -> Result<Arc<Engine>, StartError> {
    let engine = Engine::start(config);
    let engine = engine.map_err(|error| StartError::Engine(format!("{error:#}")))?;
    Ok(Arc::new(engine))
}

/// Everything but the doors.
struct Core {
    namespaces: Arc<Namespaces>,
    dispatcher: Arc<Dispatcher>,
    reloader: Reloader,
    published: watch::Sender<()>,
    cluster: Option<Arc<Cluster>>,
    /// Whose keys are fetched.
    providers: Arc<Providers>,
    /// Tokens that are good no more.
    revocations: Arc<Revocations>,
    admin: Option<(Arc<Admin>, TellPages)>,
    /// Sends traces and metrics, if there is a collector.
    exporter: Option<Exporter>,
}

impl Core {
    fn new(
        config: &Config,
        source: Option<ConfigSource>,
        secret: Arc<[u8]>,
        around: Around,
    ) -> Self {
        let Around {
            engine,
            store,
            audit,
            cluster,
            tls,
            http,
            witness,
            recorder,
            telemetry,
        } = around;
        let namespaces = Arc::new(Namespaces::new(
            config.recovery.clone(),
            config.presence.clone(),
            &config.socket,
            cluster.clone(),
        ));
        let metrics: Arc<Metrics> = Arc::default();
        let (tracer, exporter) = telemetry::start(&telemetry, &http, &metrics).unzip();
        let limits = Arc::new(RateLimits::new(metrics.clone()));
        let providers = Arc::new(Providers::new(&http, metrics.clone()));
        let revocations: Arc<Revocations> = Arc::default();
        let settings = Settings::new(config, &secret, &limits, &providers, &revocations);
        let history = Arc::new(match &cluster {
            Some(_) => History::of_cluster(config.history.clone()),
            None => History::new(config.history.clone()),
        });
        let broadcast = Broadcast::new(namespaces.clone(), history, cluster.clone());
        let dispatcher = Dispatcher::new(
            settings,
            broadcast.traced_by(tracer),
            metrics,
            audit.clone(),
            store,
        );
        let admin = config.admin.clone();
        let admin = admin.map(|config| Admin::new(config, &limits, &namespaces, &dispatcher));
        let published = watch::Sender::new(());
        let reloader = Reloader::new(
            config.clone(),
            source,
            secret,
            engine,
            Targets {
                registry: dispatcher.registry.clone(),
                settings: dispatcher.settings.clone(),
                services: Services {
                    broadcast: dispatcher.broadcast.clone(),
                    store: dispatcher.store.clone(),
                    http,
                    witness,
                    recorder,
                },
                metrics: dispatcher.metrics.clone(),
                audit,
                tls,
                providers: providers.clone(),
                revocations: revocations.clone(),
            },
            limits,
            published.clone(),
        );
        Self {
            namespaces,
            dispatcher,
            reloader,
            published,
            cluster,
            providers,
            revocations,
            admin,
            exporter,
        }
    }
}

/// What [`check`] has found.
pub(crate) struct Checked {
    /// How each plugin stands.
    pub status: Arc<Status>,
    /// What a server would start with, and clients would not take.
    pub faults: Vec<String>,
    /// What is likely a mistake, beside what the configuration alone shows.
    pub doubts: Vec<String>,
}

impl Checked {
    /// Why clients would not be served as configured.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let plugins = self.status.plugins.iter().filter_map(|plugin| {
            let reason = plugin.refusal.as_ref()?;
            Some(format!("{}: {reason}", plugin.name))
        });
        self.faults.iter().cloned().chain(plugins).collect()
    }
}

/// Loads all plugins, without serving, for what they say of their events.
pub(crate) async fn contracts(config: &Config) -> Result<(Contracts, Arc<Status>), StartError> {
    pull_missing(config).await.map_err(StartError::NotPulled)?;
    let around = Around {
        store: Store::rehearsal(config.store.clone()),
        ..Around::alone(config)?
    };
    let mut core = Core::new(config, None, secret(config), around);
    core.reloader.refresh().await;
    let registry = core.dispatcher.registry.load();
    let contracts = Contracts::of(&registry, config.auth.enabled);
    Ok((contracts, core.reloader.status().load_full()))
}

/// Reads certificates and loads all plugins as [`Server::start`] does, without serving.
pub(crate) async fn check(config: &Config) -> Result<Checked, StartError> {
    addresses(config).await?;
    let identity = identity(config).await?;
    pull_missing(config).await.map_err(StartError::NotPulled)?;
    let store = Store::rehearsal(config.store.clone());
    let around = Around {
        store: store.clone(),
        ..Around::alone(config)?
    };
    let mut core = Core::new(config, None, secret(config), around);
    core.reloader.refresh().await;
    let (faults, mut doubts) = identity.map_or_else(Default::default, |identity| identity.doubts());
    doubts.extend(store.unseen().map(str::to_owned));
    let status = core.reloader.status().load_full();
    let served = status.plugins.iter().filter_map(PluginStatus::serving);
    doubts.extend(served.filter_map(|plugin| plugin.doubt_of_grants()));
    Ok(Checked {
        status,
        faults,
        doubts,
    })
}

/// The first address that can be had.
async fn bind(config: &Config, inherited: &mut Inherited) -> Result<Port, StartError> {
    let addresses = addresses(config).await?;
    let bound = Port::bind(&addresses, inherited);
    bound.map_err(|source| listen_error(&config.listen, source))
}

/// What the address to listen on stands for. Only this machine may reach a server whose tokens
/// anybody could make.
async fn addresses(config: &Config) -> Result<Vec<SocketAddr>, StartError> {
    let addresses = resolve(&config.listen).await?;
    let public = addresses.iter().find(|address| !address.ip().is_loopback());
    let Some(public) = public.filter(|_| config.auth.enabled) else {
        return Ok(addresses);
    };
    match &config.auth.secret {
        None if !config.auth.issuers.is_empty() => Ok(addresses),
        None => Err(StartError::NoSecret(*public)),
        Some(secret) if secret.is_short_for_hs256() => Err(StartError::ShortSecret(*public)),
        Some(_) => Ok(addresses),
    }
}

async fn resolve(listen: &Listen) -> Result<Vec<SocketAddr>, StartError> {
    let resolving = listen.clone();
    let resolved = spawn_blocking(move || resolving.resolve()).await;
    let resolved = resolved.unwrap_or_else(|cancelled| Err(io::Error::other(cancelled)));
    resolved.map_err(|source| listen_error(listen, source))
}

fn listen_error(listen: &Listen, source: io::Error) -> StartError {
    StartError::Listen {
        address: listen.to_string(),
        source,
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
