//! A server as a program that embeds it wants it: with handlers and routes of its own.

use std::{
    collections::HashSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::{Router, middleware};
use tokio::{runtime::Handle, sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    Drain, Inherited, Server, StartError, Upgrade,
    addresses::{bind, listen_error},
    core::{Around, Core},
    hsts, identity, origins, random_word,
    redirect::Redirect,
    secret, warn_of_few_files,
};
use crate::{
    api::{self, Api, LocalKey},
    audit::{Audit, Entry},
    broadcast::Broadcast,
    cluster::Cluster,
    config::{self, Config},
    directory::Directory,
    dispatch::Dispatcher,
    handover::Handover,
    host_header,
    native::{Endpoint, EndpointError, Front, Host, Setup},
    panics,
    recent_log::RecentLog,
    record::Recorder,
    reload::ConfigSource,
    socket::Sockets,
    tasks::Tasks,
    telemetry::Families,
    tls,
    transport::{self, Bounds, Door, Handshakes, Listener, Relay, Sessions},
    web::{self, Playground},
    webhooks,
};

/// Makes the routes of an embedder's.
type Routes = Box<dyn FnOnce(Broadcast) -> Router + Send>;

/// A server that is still to start.
#[must_use = "nothing is served before it starts"]
pub struct Builder {
    config: Config,
    source: Option<ConfigSource>,
    recorder: Option<Arc<Recorder>>,
    native: Vec<(String, Setup)>,
    routes: Vec<Routes>,
    log: Option<RecentLog>,
    inherited: Inherited,
    upgrade: Upgrade,
}

impl Builder {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            source: None,
            recorder: None,
            native: Vec::new(),
            routes: Vec::new(),
            log: None,
            inherited: Inherited::default(),
            upgrade: Upgrade::default(),
        }
    }

    /// Has sockets that somebody else has opened: clients come to them already.
    pub(crate) fn inherit(mut self, sockets: Inherited) -> Self {
        self.inherited = sockets;
        self
    }

    /// Can be followed by another process.
    pub(crate) fn upgrade(mut self, upgrade: Upgrade) -> Self {
        self.upgrade = upgrade;
        self
    }

    /// Has a playground while somebody tries the server out, which shows this log.
    pub(crate) fn play(mut self, log: RecentLog) -> Self {
        self.log = Some(log);
        self
    }

    /// Follows the changes of what the configuration came from.
    pub fn follow(mut self, source: ConfigSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Has calls of plugins written down.
    pub(crate) fn record(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Adds a Socket.IO endpoint at `path`, e.g. `/native.io`, with native handlers, which `setup` gives
    /// it. It runs on the server's runtime.
    pub fn native(
        mut self,
        path: impl Into<String>,
        setup: impl FnOnce(&Endpoint) + Send + 'static,
    ) -> Self {
        self.native.push((path.into(), Box::new(setup)));
        self
    }

    /// Adds routes. The checks of the host's own stand before them, too: every request names its host, and
    /// pages of other sites may call as `[cors]` says.
    pub fn routes(mut self, routes: impl FnOnce(Broadcast) -> Router + Send + 'static) -> Self {
        self.routes.push(Box::new(routes));
        self
    }

    /// Binds and loads all plugins. A plugin that is refused does not keep the others from serving.
    pub async fn start(self) -> Result<Server, StartError> {
        let Self {
            config,
            source,
            recorder,
            native,
            routes,
            log,
            mut inherited,
            upgrade,
        } = self;
        let builds = source.as_ref().and_then(|source| source.builds.clone());
        let socket = bind(&config, &mut inherited).await?;
        for doubt in config.doubts() {
            tracing::warn!("{doubt}");
        }
        warn_of_few_files(config.socket.max_connections);
        let identity = identity(&config).await?;
        if let Some(identity) = &identity {
            identity.warn_of_doubts();
        }
        let tls = identity.map(|identity| tls::Current::new(ArcSwap::from_pointee(identity)));
        let redirect = match (&config.tls, &tls) {
            (Some(config), Some(current)) => {
                Redirect::bind(config, current, &mut inherited).await?
            }
            _ => None,
        };
        inherited.close();
        let audit = open_audit(&config.audit)?;
        let secret = secret(&config);
        let Core {
            namespaces,
            dispatcher,
            mut reloader,
            published,
            cluster,
            providers,
            revocations,
            admin,
            exporter,
        } = Core::new(
            &config,
            source,
            secret.clone(),
            Around {
                audit: audit.clone(),
                cluster: Cluster::new(&config.cluster, &config.recovery),
                tls: tls.clone(),
                recorder,
                telemetry: config.telemetry.clone(),
                ..Around::alone(&config)?
            },
        );
        if let Some(lost) = audit.lost() {
            dispatcher.metrics.add(lost);
        }
        let directory = Directory::new(dispatcher.clone(), namespaces.clone(), &config.socket);
        let (admin, pages) = admin.unzip();
        let sockets = Arc::new(Sockets {
            dispatcher: dispatcher.clone(),
            directory: directory.clone(),
            admin,
        });
        let sessions = namespaces.sessions().clone();
        let door: Arc<dyn Door> = sockets.clone();
        sessions.open_door(Arc::downgrade(&door));
        sessions.run_on(Handle::current());
        let patience = config.socket.ping_interval + config.socket.ping_timeout;
        let relay = cluster.as_ref().and_then(|it| Relay::new(it, patience));
        let relay = relay.map(Arc::new);
        if let Some(relay) = &relay {
            sessions.pass_on(relay.clone());
        }

        let reload_requests = mpsc::channel(1);
        // Without a secret the server is for trying out, by whoever started it.
        let trying_out = config.auth.is_for_trying_out();
        let local_key = LocalKey::new(random_word(), trying_out);
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone());
        let drain = Drain::new(sessions.clone(), relay, stop.child_token());
        let idempotency = api::Idempotency::default();
        let handover = Handover::of(&config, &namespaces, &idempotency);
        let api = Api {
            broadcast: dispatcher.broadcast.clone(),
            settings: dispatcher.settings.clone(),
            local_key: local_key.clone(),
            idempotency,
            in_flight: api::InFlight::default(),
            status: reloader.status(),
            reload: reload_requests.0.clone(),
            metrics: dispatcher.metrics.clone(),
            namespaces,
            down: tasks.down(),
            audit: audit.clone(),
            drain: drain.clone(),
            upgrade,
            store: dispatcher.store.clone(),
            registry: dispatcher.registry.clone(),
            providers: providers.clone(),
            started: api::Started::now(),
        };
        let exporter = exporter.map(|exporter| {
            let api = api.clone();
            (exporter, Box::new(move || api.gather_metrics()) as Families)
        });
        let settings = dispatcher.settings.clone();
        let check_origins = middleware::from_fn_with_state(settings.clone(), origins::check);
        let socket_path = config.socket.path.trim_end_matches('/');
        let native = open(native, &config.socket, &dispatcher, &sessions)?;
        let plugins = transport::router(socket_path, sessions.clone());
        let mut router = api::router(api)
            .merge(webhooks::router(dispatcher.clone()))
            .merge(web::router(&config.web, socket_path));
        if config.console.enabled {
            router = router.merge(web::console());
        }
        let bound = socket.address();
        if bound.is_ok_and(|address| web::is_alone_with_it(&config, address)) {
            let registry = dispatcher.registry.clone();
            router = router.merge(web::contracts(registry.clone(), settings.clone()));
            if let Some(log) = log.filter(|_| trying_out) {
                router = router.merge(web::playground(Playground {
                    log,
                    registry,
                    settings: settings.clone(),
                    status: reloader.status(),
                    builds,
                    local_key: local_key.clone(),
                    secret: secret.clone(),
                    socket_path: socket_path.to_owned(),
                    stop: stop.clone(),
                }));
            }
        }
        let at = format!("the plugins' endpoint at {socket_path:?}");
        router = merge(router, plugins.layer(check_origins.clone()), at)?;
        for front in &native {
            let at = format!("the native endpoint at {:?}", front.path());
            router = merge(router, front.router().layer(check_origins.clone()), at)?;
        }
        for routes in routes {
            let routes = routes(dispatcher.broadcast.clone());
            router = merge(router, routes, "the program's routes".to_owned())?;
        }
        let router = router
            .layer(origins::cors(settings))
            .layer(middleware::map_response(origins::tell_listed_only))
            .layer(middleware::from_fn(host_header::require));
        let router = match config.tls.as_ref().and_then(|tls| tls.hsts) {
            Some(age) => hsts::tell(router, age),
            None => router,
        };

        tokio::select! {
            () = reloader.refresh() => {}
            // A plugin that migrates what it has stored waits for the disk. It ends with the store only.
            () = dispatcher.store.settle() => {}
        }
        directory.settle();
        let handover = take_over(handover, &directory).await;
        // Whoever comes with a revoked token is to be refused from the first on. Where the store does not say what is
        // revoked, that is said, and asked again.
        let _ = dispatcher.read_revocations(&revocations).await;
        // Only now: who connects gets an answer, and a proxy sees until then that nobody is there.
        let tcp = socket.listen();
        let address = tcp.and_then(|tcp| Ok((tcp.local_addr()?, tcp)));
        let (address, tcp) = address.map_err(|source| listen_error(&config.listen, source))?;
        let refused = dispatcher.metrics.refused_connections();
        let settings = dispatcher.settings.clone();
        let bounds = Bounds::new(&config.socket, settings, refused);
        let redirect = redirect.map(|redirect| redirect.listen(address, bounds.clone()));
        let handshakes = config.tls.as_ref().zip(tls).map(|(config, current)| {
            let counts = dispatcher.metrics.tls_handshakes();
            Arc::new(Handshakes::new(current, config.handshake_timeout, counts))
        });
        let is_secure = handshakes.is_some();
        audit.write(|| Entry::Started {
            version: env!("CARGO_PKG_VERSION"),
            process: std::process::id(),
        });
        let listener = Listener::new(tcp, bounds, handshakes);
        Ok(Server {
            address,
            listener,
            redirect: redirect.transpose()?,
            is_secure,
            request_timeout: config.socket.request_timeout,
            router,
            directory,
            sessions,
            sockets,
            native,
            dispatcher,
            reloader,
            reload_requests,
            published,
            cluster,
            providers,
            revocations,
            pages,
            exporter,
            secret,
            local_key,
            drain,
            handover,
            shutdown: config.shutdown,
            tasks,
            stop,
        })
    }
}

/// Opens the audit log, if there is one.
fn open_audit(config: &config::Audit) -> Result<Audit, StartError> {
    Audit::open(config).map_err(|source| unusable_audit(config, source))
}

/// What is wrong if it cannot be opened.
pub(super) fn unusable_audit(config: &config::Audit, source: io::Error) -> StartError {
    StartError::Audit {
        path: config.path.clone().unwrap_or_default(),
        source,
    }
}

/// Goes on with what the process before has left.
async fn take_over(handover: Option<Handover>, directory: &Arc<Directory>) -> Option<Handover> {
    let (handover, directory) = (handover?, directory.clone());
    let taken = spawn_blocking(move || {
        handover.take(&directory);
        handover
    });
    let failed = |error| tracing::error!("nothing is taken over, nor will be left: {error}");
    taken.await.map_err(failed).ok()
}

/// Builds the native endpoints.
fn open(
    native: Vec<(String, Setup)>,
    config: &config::Socket,
    dispatcher: &Dispatcher,
    sessions: &Arc<Sessions>,
) -> Result<Vec<Arc<Front>>, StartError> {
    let broadcast = &dispatcher.broadcast;
    let host = Arc::new(Host {
        settings: dispatcher.settings.clone(),
        metrics: dispatcher.metrics.clone(),
        audit: dispatcher.audit.clone(),
        deadlines: dispatcher.deadlines.clone(),
        present: broadcast.native().present.clone(),
    });
    let mut paths = HashSet::new();
    let mut fronts = Vec::with_capacity(native.len());
    for (path, setup) in native {
        let front = match paths.insert(path.clone()) {
            true => Endpoint::build(&path, setup, &host, broadcast, sessions, config),
            false => Err(EndpointError::SamePath),
        };
        fronts.push(front.map_err(|source| StartError::Native { path, source })?);
    }
    let endpoints = fronts.iter().map(|front| front.io().clone()).collect();
    broadcast.native().serve(endpoints, Handle::current());
    Ok(fronts)
}

/// Adds routes to others. axum panics where two are the same.
fn merge(router: Router, more: Router, what: String) -> Result<Router, StartError> {
    let merged = catch_unwind(AssertUnwindSafe(|| router.merge(more)));
    merged.map_err(|panic| StartError::Routes {
        what,
        reason: panics::message(&*panic),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        net::SocketAddr,
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use axum::routing::get;
    use socketioxide::{extract::SocketRef, handler::ConnectHandler};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::sleep,
    };

    use super::*;

    fn builder() -> Builder {
        Server::builder(Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        })
    }

    fn open_main(endpoint: &Endpoint) {
        endpoint.ns("/", async || {});
    }

    fn health() -> Router {
        Router::new().route("/healthz", get(async || "mine"))
    }

    #[tokio::test]
    async fn what_an_embedder_gets_wrong_is_said() {
        let mut at_health = builder();
        at_health.config.socket.path = "/healthz".to_owned();
        let with = |path: &str| builder().native(path, open_main);
        let setup = |setup: fn(&Endpoint)| builder().native("/native.io", setup);
        for (builder, expected) in [
            (at_health, "the plugins' endpoint at \"/healthz\""),
            (with("/socket.io"), "the path of the plugins' endpoint"),
            (
                with("/native.io").native("/native.io", open_main),
                "two with this path",
            ),
            (with("native.io"), "a path is like"),
            (with("/native.io/"), "a path is like"),
            (with("/{native}"), "a path is like"),
            (with("/healthz"), "the native endpoint at \"/healthz\""),
            (
                setup(|endpoint| endpoint.ns("chat", async || {})),
                "\"chat\"",
            ),
            (
                setup(|endpoint| endpoint.ns("/chat-*", async || {})),
                "\"/chat-*\"",
            ),
            (
                setup(|endpoint| {
                    endpoint.ns("/chat", async || {});
                    endpoint.ns("/chat", async || {});
                }),
                "\"/chat\" is added twice",
            ),
            (
                setup(|endpoint| {
                    open_main(endpoint);
                    endpoint.io().ns("/chat", async || {});
                }),
                "\"/chat\" is open to everybody",
            ),
            (
                builder().routes(|_| health()),
                "routes cannot be served beside the others: Overlapping method route. Handler for `GET /healthz`",
            ),
            (
                builder().routes(|_| Router::new().fallback(async || "mine")),
                "fallback",
            ),
            (
                builder()
                    .routes(|_| Router::new().route("/native.io", get(async || "mine")))
                    .native("/native.io", open_main),
                "/native.io",
            ),
        ] {
            let error = builder.start().await.err().expect(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn what_fits_together_is_served_and_nothing_is_left_of_it() {
        let more = |path: &'static str| move |_| Router::new().route(path, get(async || "mine"));
        let kept = Arc::new(());
        let left = Arc::downgrade(&kept);
        let builder = builder()
            .native("/native.io", open_main)
            .native("/socket.io/native", |endpoint| {
                open_main(endpoint);
                let held = (endpoint.broadcast().clone(), endpoint.io().clone(), kept);
                endpoint.ns("/chat", async move || drop(held));
            })
            .routes(more("/mine"))
            .routes(more("/native.io/mine"));
        let server = builder.start().await.unwrap();
        assert!(left.upgrade().is_some());
        server.run(async {}).await.unwrap();
        assert!(left.upgrade().is_none());
    }

    /// What a polling client's request to a native endpoint is answered with.
    async fn polled(address: SocketAddr, method: &str, query: &str, body: &str) -> String {
        let head = format!(
            "{method} /native.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: localhost\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn handlers_that_are_at_work_are_waited_for() {
        let (done, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let is_done = done.clone();
        let add_events = async |socket: SocketRef| {
            socket.on_disconnect(async move || {
                sleep(Duration::from_millis(200)).await;
                is_done.store(true, Ordering::Release);
            });
            Ok::<(), Infallible>(())
        };
        let setup = |endpoint: &Endpoint| endpoint.ns("/", (async || {}).with(add_events));
        let server = builder().native("/native.io", setup).start().await.unwrap();
        let (address, broadcast) = (server.address(), server.broadcast());
        let ran = tokio::spawn(server.run(stop.clone().cancelled_owned()));

        let opened = polled(address, "GET", "", "").await;
        let (_, sid) = opened.split_once("{\"sid\":\"").unwrap();
        let query = format!("&sid={}", sid.split('"').next().unwrap());
        polled(address, "POST", &query, "40").await;
        while !polled(address, "GET", &query, "").await.contains("40{") {}
        assert_eq!(broadcast.connected_clients_count(), 1);

        stop.cancel();
        ran.await.unwrap().unwrap();
        assert!(done.load(Ordering::Acquire));
        assert_eq!(broadcast.connected_clients_count(), 0);
    }
}
