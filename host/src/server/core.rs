//! The parts of a server behind its doors, and how they are put together.

use std::sync::Arc;

use tokio::sync::watch;

use super::StartError;
use crate::{
    admin::{Admin, TellPages},
    admission::RateLimits,
    audit::Audit,
    auth::Providers,
    broadcast::Broadcast,
    cluster::Cluster,
    config::{self, Config},
    dispatch::Dispatcher,
    history::History,
    http_client::HttpClient,
    metrics::Metrics,
    plugin::{Engine, Services, Witness},
    record::Recorder,
    reload::{ConfigSource, Reloader, Targets},
    revocation::Revocations,
    settings::Settings,
    store::Store,
    telemetry::{self, Exporter},
    tls,
    transport::Namespaces,
};

/// What a server has around it.
pub(super) struct Around {
    pub(super) engine: Arc<Engine>,
    /// What plugins remember.
    pub(super) store: Arc<Store>,
    /// Who changed what, and who was refused.
    pub(super) audit: Audit,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) tls: Option<tls::Current>,
    /// What plugins send requests with.
    pub(super) http: HttpClient,
    /// Who looks at each call, if somebody does.
    pub(super) witness: Option<Arc<Witness>>,
    /// Writes down each call, if somebody does.
    pub(super) recorder: Option<Arc<Recorder>>,
    /// Where traces and metrics go, if they do.
    pub(super) telemetry: config::Telemetry,
}

impl Around {
    /// What a server has without others and without certificates.
    pub(super) fn alone(config: &Config) -> Result<Self, StartError> {
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
pub(super) struct Core {
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) reloader: Reloader,
    pub(super) published: watch::Sender<()>,
    pub(super) cluster: Option<Arc<Cluster>>,
    /// Whose keys are fetched.
    pub(super) providers: Arc<Providers>,
    /// Tokens that are good no more.
    pub(super) revocations: Arc<Revocations>,
    pub(super) admin: Option<(Arc<Admin>, TellPages)>,
    /// Sends traces and metrics, if there is a collector.
    pub(super) exporter: Option<Exporter>,
}

impl Core {
    pub(super) fn new(
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
