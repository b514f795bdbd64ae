//! From a component's bytes to a plugin that is known to work: compile, link what is granted,
//! instantiate once and ask it to describe itself, all within budgets. Every failure is an
//! answer with a reason.

use std::{
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::SetOnce,
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use wasmtime::component::{Component, HasSelf, Linker};

use super::{
    breaker::Breaker,
    call_error::{CallError, is_exhaustion},
    code::Code,
    compiler::CompileError,
    content::Content,
    encoder::is_core_module,
    engine::Engine,
    health::Health,
    imports::{self, ImportError, PACKAGE, VERSION, Wanted},
    instance::{Described, Offer, Prepared},
    metered::{CpuTime, Metered},
    pool::Pool,
    script::{Files, LAST_WORDS},
    weight::{TooMany, Weight},
    witness::Witness,
};
use crate::{
    broadcast::Broadcast,
    capability::{Allowance, HttpAccess, Permits, Places, State, add_wasi_http_to_linker},
    config::{self, Budget, FilterFailure, HttpRule},
    grant::Grants,
    guest::{self, Description},
    http_client::HttpClient,
    metrics::CallMetrics,
    panics::message,
    record::{self, Recorder, Tape},
    store::{Open, Store},
    units::duration,
};

/// The host's own version, for those who build plugins.
const HOST: &str = env!("CARGO_PKG_VERSION");

/// What to load, and what it may do.
#[derive(Clone)]
pub(crate) struct Source {
    /// The name in `mixlab.toml`.
    pub name: Arc<str>,
    /// What its file holds.
    pub code: Code,
    /// What it may ask of the host. What is taken away while it runs is refused at the next call.
    pub grants: Arc<ArcSwap<Grants>>,
    /// What is said of the requests that it sends.
    pub http: Vec<HttpRule>,
    /// JSON text of its `config` table.
    pub config: String,
    /// What a call may use.
    pub budget: Budget,
    /// When it is paused.
    pub breaker: config::Breaker,
    /// What becomes of it when it keeps failing.
    pub on_failure: config::OnFailure,
    /// The namespaces that nobody enters whom it was not asked about.
    pub guards: Vec<String>,
    /// What becomes of events that it cannot filter.
    pub filter: config::Filter,
    /// Whose webhooks it takes.
    pub webhook: config::Webhook,
    /// Whether all servers of a cluster count its events together.
    pub shared_limits: bool,
}

/// What all plugins share.
#[derive(Clone)]
pub(crate) struct Services {
    /// What they push with.
    pub broadcast: Broadcast,
    /// What they remember.
    pub store: Arc<Store>,
    /// What they send requests with.
    pub http: HttpClient,
    /// Who looks at each of their calls, if somebody does.
    pub witness: Option<Arc<Witness>>,
    /// Writes down their calls, if somebody does.
    pub recorder: Option<Arc<Recorder>>,
}

/// One generation of a plugin: a version of its code with its grants and budget, ready to be
/// called. It is dropped when its last call has ended.
pub struct Plugin {
    source: Source,
    generation: u64,
    /// As it says; known when it has described itself.
    version: OnceLock<String>,
    /// The version of the form in which it stores; known then, too.
    data_version: OnceLock<u32>,
    /// What it has of what is optional; known then, too.
    offer: OnceLock<Offer>,
    /// Whether what is stored is, or may be by now, in the form of another version.
    is_outdated: AtomicBool,
    /// The version that has taken its place with what is stored.
    successor: SetOnce<Arc<Plugin>>,
    prepared: Prepared,
    pool: Arc<Pool>,
    /// Where calls wait for acks of clients.
    asks: Arc<Places>,
    /// What its calls send requests with.
    http: Arc<HttpAccess>,
    health: Arc<Health>,
    breaker: Breaker,
    metrics: CallMetrics,
    engine: Arc<Engine>,
    broadcast: Broadcast,
    /// Open, if it uses the store.
    store: Option<Open>,
    /// Those of its calls that kept conflicting run one after the other.
    contended: Arc<tokio::sync::Mutex<()>>,
    witness: Option<Arc<Witness>>,
    recorder: Option<Arc<Recorder>>,
    retired: CancellationToken,
}

/// Why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The compiler took too long, now or when it met the same bytes before.
    #[error("it does not compile within the budget compile = {0}")]
    CompileTimeout(String),
    /// The compiler is busy with bytes that the file held before, which are over their budget.
    #[error("the compiler is still busy with what the file held before")]
    Compiling,
    /// The machine has no memory or the like for it right now.
    #[error("it cannot be compiled now: {0}")]
    Exhausted(String),
    /// The bytes are not a component.
    #[error("{0}")]
    NotAComponent(String),
    /// It is made of more parts than a component may be.
    #[error(transparent)]
    TooMany(TooMany),
    /// It does not fit this host, or is not let in.
    #[error(transparent)]
    Imports(ImportError),
    /// It asks clients, and none of its instances may wait for them.
    #[error(
        "it imports mixlab:plugin/ask, and instances = {0} leaves none that may wait for clients: \
         add asks = 1 to its budget, if clients that do not answer may stop it meanwhile"
    )]
    NoAsks(usize),
    /// It takes webhooks, and nobody would know from whom.
    #[error(
        "it takes webhooks, and nothing says who may send them: add verify and secret_env to \
         [plugins.webhook] in mixlab.toml, or \"webhook:unverified\" to its grants"
    )]
    Unverified,
    /// The store cannot be opened.
    #[error("it uses the store, which cannot be opened: {0}")]
    Store(String),
    /// It sends requests, and none of its calls may wait for them.
    #[error(
        "it sends requests, and instances = {0} leaves none that may wait for servers: add \
         requests = 1 to its budget, if a slow server may stop it meanwhile"
    )]
    NoRequests(usize),
    /// It fits by its names and not by its types: the number of the version says too little.
    #[error(
        "it is built for a {PACKAGE}@{VERSION} that is not the {PACKAGE}@{VERSION} which this host, \
         mixlab {HOST}, offers: {0}; build it again with the wit/ of this host"
    )]
    Types(String),
    /// It could not be started, or failed in `describe`.
    #[error("describe failed: {0}")]
    Describe(CallError),
    /// It refused: `describe` returned an error.
    #[error("it refused its configuration: {0}")]
    Refused(String),
    /// It is a script that cannot be run, or says itself where it failed.
    #[error("{0}")]
    Script(String),
    /// The host's own fault.
    #[error("the host panicked while loading it: {0}")]
    Panicked(String),
    /// The host stopped meanwhile.
    #[error("the host is shutting down")]
    Stopped,
}

impl LoadError {
    /// Why a task gave no answer.
    fn unended(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => Self::Panicked(message(&*panic)),
            Err(_) => Self::Stopped,
        }
    }

    /// Whether the same bytes may load later, with nothing else changed.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Compiling
                | Self::Exhausted(_)
                | Self::Store(_)
                | Self::Stopped
                | Self::Describe(CallError::Exhausted(_))
        )
    }
}

impl Plugin {
    /// Loads a plugin as generation `generation` and says what it handles.
    pub(crate) async fn load(
        engine: Arc<Engine>,
        services: Services,
        source: Source,
        generation: u64,
        health: Arc<Health>,
        metrics: CallMetrics,
    ) -> Result<(Arc<Self>, Description), LoadError> {
        let Services {
            broadcast,
            store,
            http: client,
            witness,
            recorder,
        } = services;
        let runtime = engine.runtime(false).clone();
        let prepared = match &source.code {
            Code::Component(content) => prepare_component(&engine, &source, content).await?,
            Code::Script(files) => prepare_script(&engine, &source, files).await?,
        };
        // What came of a delivery is kept there. Of a script nobody knows yet whether it takes some.
        let remembers = prepared.takes_webhooks() && source.webhook.verification.is_some();
        let store = match prepared.uses_store() || remembers {
            true => {
                let opening = runtime.spawn_blocking(move || store.open());
                let opened = opening.await.map_err(LoadError::unended)?;
                Some(opened.map_err(|error| LoadError::Store(error.to_string()))?)
            }
            false => None,
        };
        let instances = source.budget.instances;
        let permits = Arc::new(Permits::new(instances));
        let requests = source.budget.requests();
        let http = HttpAccess {
            client: client.of_plugin(),
            rules: source.http.clone(),
            places: match instances {
                // A plugin that wants one memory for all its calls has no other to lend.
                1 => Places::new(requests, instances, permits.clone()),
                _ => Places::lending(requests, instances, permits.clone()),
            },
            metrics: metrics.clone(),
        };
        let plugin = Arc::new(Self {
            generation,
            version: OnceLock::new(),
            data_version: OnceLock::new(),
            offer: OnceLock::new(),
            is_outdated: AtomicBool::new(false),
            successor: SetOnce::new(),
            prepared,
            pool: Pool::new(instances, permits.clone()),
            asks: Arc::new(Places::new(source.budget.asks(), instances, permits)),
            http: Arc::new(http),
            health,
            breaker: Breaker::new(&source.breaker, source.on_failure),
            metrics,
            engine,
            broadcast,
            store,
            contended: Arc::default(),
            witness,
            recorder,
            retired: CancellationToken::new(),
            source,
        });
        let describing = runtime.spawn({
            let plugin = plugin.clone();
            async move { plugin.describe().await }
        });
        let description = describing.await.map_err(LoadError::unended)??;
        plugin.version.get_or_init(|| description.version.clone());
        Ok((plugin, description))
    }

    /// The first instance is a trial: only with its description is the plugin worth anything.
    async fn describe(&self) -> Result<Description, LoadError> {
        let Budget { cpu, wall, .. } = self.source.budget;
        let mut lease = self.pool.take().await;
        let mut used = CpuTime::default();
        let creation = pin!(async {
            let described = self.instantiate(self.new_tape()).await?;
            let Ok((mut instance, description, offer)) = described else {
                return Ok(described);
            };
            let version = instance.data_version().await;
            let version = version.map_err(|error| self.trap(&error))?;
            self.data_version.get_or_init(|| version);
            self.offer.get_or_init(|| offer);
            Ok(Ok((instance, description, offer)))
        });
        let metered = Metered {
            future: creation,
            cpu: &mut used,
            limit: cpu,
            last_words: self.last_words(),
        };
        let out_of_time =
            |budget, allowed| LoadError::Describe(CallError::out_of_time(budget, allowed));
        let described = tokio::time::timeout(wall, metered)
            .await
            .map_err(|_| out_of_time("wall", wall))?
            .ok_or_else(|| out_of_time("cpu", cpu))?
            .map_err(|error| match error {
                CallError::Misfit(types) => LoadError::Types(types),
                CallError::Script(text) => LoadError::Script(text),
                error => LoadError::Describe(error),
            })?;
        let (instance, description, offer) =
            described.map_err(|reason| match self.is_script() {
                true => LoadError::Script(reason),
                false => LoadError::Refused(reason),
            })?;
        let Source {
            webhook, grants, ..
        } = &self.source;
        let is_verified = webhook.verification.is_some();
        if offer.webhooks && !is_verified && !grants.load().unverified_webhooks() {
            return Err(LoadError::Unverified);
        }
        lease.provide(instance);
        Ok(description)
    }

    /// A new instance, described. Takes as long as the guest likes: the caller bounds it.
    pub(super) async fn instantiate(
        &self,
        tape: Option<Arc<Tape>>,
    ) -> Result<Described, CallError> {
        let Source {
            name,
            grants,
            config,
            budget,
            ..
        } = &self.source;
        let allowance = Allowance {
            memory_bytes: budget.memory.as_usize(),
            boundary_bytes: budget.boundary.as_usize(),
            host_calls: budget.host_calls,
            effects: budget.effects,
            log_bytes: budget.log.as_usize(),
            data_bytes: budget.data.as_usize(),
        };
        let state = State::new(
            name.clone(),
            grants.clone(),
            self.broadcast.clone(),
            self.store.clone(),
            self.asks.clone(),
            self.http.clone(),
            self.health.journal().clone(),
            tape,
            allowance,
        );
        let output = state.output.clone();
        let tape = state.tape().cloned();
        let config = tape
            .as_ref()
            .and_then(|tape| tape.config())
            .unwrap_or(config);
        let _ticking = self.engine.ticker().hold();
        let described = self
            .prepared
            .instantiate(state, allowance.boundary_bytes, config)
            .await;
        described.map_err(|error| match (self.trap(&error), output.take()) {
            (CallError::Trap(text), Some(written)) => CallError::Trap(format!("{text}{written}")),
            (error, _) => error,
        })
    }

    /// What records the calls of a new instance, if they are recorded.
    pub(super) fn new_tape(&self) -> Option<Arc<Tape>> {
        let recorder = self.recorder.clone()?;
        let grants = self.source.grants.load();
        let instance = record::Instance {
            instance: 0,
            plugin: self.source.name.as_ref().to_owned(),
            config: serde_json::from_str(&self.source.config).unwrap_or_default(),
            grants: grants.iter().map(ToString::to_string).collect(),
            seed: String::new(),
            answers: Vec::new(),
        };
        Some(Tape::record(recorder, instance))
    }

    /// Whether it is a script.
    pub fn is_script(&self) -> bool {
        self.prepared.is_script()
    }

    /// How much longer than its budget a call may take, which is told when that is used up.
    pub(super) fn last_words(&self) -> Duration {
        match self.is_script() {
            true => LAST_WORDS,
            false => Duration::ZERO,
        }
    }

    /// The reason of a trap.
    pub(super) fn trap(&self, error: &wasmtime::Error) -> CallError {
        CallError::of_trap(error, self.source.budget.boundary.as_usize())
    }

    /// The name in `mixlab.toml`.
    pub fn name(&self) -> &Arc<str> {
        &self.source.name
    }

    /// Which load of this plugin it is, counted from 1 since the server started.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its version, as it says.
    pub fn version(&self) -> &str {
        self.version.get().map_or("", String::as_str)
    }

    /// The version of the form in which it stores, as it says.
    pub fn data_version(&self) -> u32 {
        self.data_version.get().copied().unwrap_or_default()
    }

    /// Whether what is stored is, or may be by now, in the form of another version: nothing is committed
    /// for this one.
    pub fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::SeqCst)
    }

    pub(super) fn set_outdated(&self, is_outdated: bool) {
        self.is_outdated.store(is_outdated, Ordering::SeqCst);
    }

    /// The version that has taken its place with what is stored, if one has.
    pub(crate) fn successor(&self) -> &SetOnce<Arc<Self>> {
        &self.successor
    }

    /// The grants that it cannot be loaded without.
    pub fn requests(&self) -> &[&'static str] {
        self.prepared.requests()
    }

    /// The grants that it may need besides, as whom or what its calls are about.
    pub fn may_request(&self) -> &[&'static str] {
        self.prepared.may_request()
    }

    /// Whether it is granted this namespace, or all that match this pattern, right now.
    pub fn may_serve(&self, namespace: &str) -> bool {
        self.source.grants.load().namespace(namespace)
    }

    /// Whether the host serves a namespace itself.
    pub(crate) fn is_hosts(&self, namespace: &str) -> bool {
        self.broadcast.is_hosts(namespace)
    }

    /// What it is granted right now.
    pub fn grants(&self) -> arc_swap::Guard<Arc<Grants>> {
        self.source.grants.load()
    }

    fn offers(&self, what: impl FnOnce(&Offer) -> bool) -> bool {
        self.offer.get().is_some_and(what)
    }

    /// Whether it wants to know of connections.
    pub fn wants_connections(&self) -> bool {
        self.offers(|offer| offer.connections)
    }

    /// The namespaces, as names and patterns, that nobody enters whom it was not asked about.
    pub(crate) fn guards(&self) -> &[String] {
        &self.source.guards
    }

    /// Whether it takes webhooks.
    pub fn takes_webhooks(&self) -> bool {
        self.offers(|offer| offer.webhooks)
    }

    /// Whether all servers of a cluster count its events together.
    pub(crate) fn shares_limits(&self) -> bool {
        self.source.shared_limits
    }

    /// Whose webhooks it takes.
    pub(crate) fn webhook(&self) -> &config::Webhook {
        &self.source.webhook
    }

    /// The store, open if it or the host needs it for the plugin.
    pub(crate) fn store(&self) -> Option<&Open> {
        self.store.as_ref()
    }

    /// Whether it can filter events of other plugins.
    pub fn can_filter(&self) -> bool {
        self.offers(|offer| offer.filters)
    }

    /// Whether it is granted to filter this event, or all that match this pattern, right now.
    pub fn may_filter(&self, event: &str) -> bool {
        self.source.grants.load().filter(event)
    }

    /// What becomes of events that it cannot filter.
    pub(crate) fn on_filter_failure(&self) -> FilterFailure {
        self.source.filter.on_failure
    }

    /// What its calls that kept conflicting wait for, so that they do not conflict with each other.
    pub(crate) fn contended(&self) -> &Arc<tokio::sync::Mutex<()>> {
        &self.contended
    }

    /// Who looks at each call, if somebody does.
    pub(super) fn witness(&self) -> Option<&Witness> {
        self.witness.as_deref()
    }

    /// Whether it can be called by timers.
    pub fn handles_timers(&self) -> bool {
        self.offers(|offer| offer.timer_handler)
    }

    /// How long a call may take.
    pub(crate) fn wall(&self) -> Duration {
        self.source.budget.wall
    }

    /// How it has been doing, over all generations.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Pauses it when it keeps failing.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Memory of its instances, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.pool.memory_bytes()
    }

    /// Ends the calls that are still under way; for a generation past its drain deadline.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    pub(super) fn retired(&self) -> WaitForCancellationFuture<'_> {
        self.retired.cancelled()
    }

    /// Within how many seconds 99 of 100 calls since the start have ended, of all generations; none if there was
    /// no call.
    pub(crate) fn p99(&self) -> Option<f64> {
        self.metrics.p99()
    }

    pub(super) fn metrics(&self) -> &CallMetrics {
        &self.metrics
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.source.budget
    }

    /// How long it may take to compile it, and then what it declares.
    pub fn compile_time(&self) -> Duration {
        self.source.budget.compile
    }

    /// Runs work that takes long on a thread of low priority.
    pub fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.engine.runtime(false).spawn_blocking(work)
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}

async fn prepare_component(
    engine: &Arc<Engine>,
    source: &Source,
    content: &Content,
) -> Result<Prepared, LoadError> {
    let runtime = engine.runtime(false);
    check_header(content.bytes())?;
    // Before it is compiled: what there is too much of would be compiled as often.
    let weighing = runtime.spawn_blocking({
        let content = content.clone();
        move || Weight::of(content.bytes())
    });
    let weight = weighing.await.map_err(LoadError::unended)?;
    let weight = weight.map_err(LoadError::TooMany)?;
    // Compiling blocks for long; describe may be slow or loop. Neither belongs on the
    // server's threads.
    let budget = source.budget.compile;
    let compiler = engine.compiler();
    let compiling = compiler.compile(runtime, &source.name, content, budget);
    let component = compiling
        .await
        .map_err(|error| not_compiled(error, budget))?;
    let preparing = runtime.spawn_blocking({
        let (engine, source) = (engine.clone(), source.clone());
        move || prepare(&engine, &source, &component, weight)
    });
    preparing.await.map_err(LoadError::unended)?
}

/// Puts a script and the component that runs all of them together.
async fn prepare_script(
    engine: &Engine,
    source: &Source,
    files: &Arc<Files>,
) -> Result<Prepared, LoadError> {
    let (scripts, compiler) = (engine.scripts(), engine.compiler());
    let (threads, budget) = (engine.runtime(false), source.budget.compile);
    let failed = |error| not_compiled(error, budget);
    let runtime = scripts.runtime(compiler, threads, || engine.base_linker());
    let runtime = runtime.await.map_err(failed)?;
    let _ticking = engine.ticker().hold();
    let program = scripts.program(compiler, threads, files, engine.ticks(budget));
    let program = program.await.map_err(failed)?;
    program
        .main()
        .map_err(|reason| LoadError::Script(reason.to_owned()))?;
    let grants = source.grants.load();
    let wanted = Wanted::of_script(&grants, program.may_request());
    check_waits(&wanted, &grants, &source.budget)?;
    let ticker = engine.ticker().clone();
    Prepared::new(
        runtime.pre,
        wanted,
        runtime.weight,
        ticker,
        Some(Arc::new(program)),
    )
    .map_err(|error| LoadError::Types(format!("{error:#}")))
}

/// Why nothing was compiled, for whoever reads what became of a plugin.
fn not_compiled(error: CompileError, budget: Duration) -> LoadError {
    match error {
        CompileError::OverBudget => {
            LoadError::CompileTimeout(duration::display(budget).to_string())
        }
        CompileError::Busy => LoadError::Compiling,
        CompileError::Unended(error) => LoadError::unended(error),
        CompileError::Failed(error) if is_exhaustion(&error) => {
            LoadError::Exhausted(format!("{error:#}"))
        }
        CompileError::Failed(error) => {
            LoadError::NotAComponent(format!("it is not a valid component: {error:#}"))
        }
    }
}

/// Whoever waits for clients or servers needs an instance that may.
fn check_waits(wanted: &Wanted, grants: &Grants, budget: &Budget) -> Result<(), LoadError> {
    if wanted.ask && budget.asks() == 0 {
        return Err(LoadError::NoAsks(budget.instances));
    }
    let sends_requests = wanted.http || wanted.wasi_http && grants.any_http();
    if sends_requests && budget.requests() == 0 {
        return Err(LoadError::NoRequests(budget.instances));
    }
    Ok(())
}

fn prepare(
    engine: &Engine,
    source: &Source,
    component: &Component,
    weight: Weight,
) -> Result<Prepared, LoadError> {
    let wanted = imports::check(engine.wasm(), component, &source.grants.load())
        .map_err(LoadError::Imports)?;
    check_waits(&wanted, &source.grants.load(), &source.budget)?;
    let mut linker = engine.base_linker();
    let types = |error: wasmtime::Error| LoadError::Types(format!("{error:#}"));
    if wanted.offers {
        link_everything(&mut linker).map_err(types)?;
    } else {
        link(&mut linker, &wanted).map_err(types)?;
    }
    if wanted.wasi_http {
        add_wasi_http_to_linker(&mut linker).map_err(types)?;
    }
    let pre = linker.instantiate_pre(component).map_err(types)?;
    Prepared::new(pre, wanted, weight, engine.ticker().clone(), None).map_err(types)
}

/// Links what a plugin is granted when it is loaded.
fn link(linker: &mut Linker<State>, wanted: &Wanted) -> wasmtime::Result<()> {
    if wanted.broadcast {
        guest::broadcast::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.rooms {
        guest::rooms::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.emit {
        guest::emit::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.ask {
        guest::ask::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.http {
        guest::http::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.sockets {
        guest::sockets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.history {
        guest::history::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.presence {
        guest::presence::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.store {
        guest::store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if wanted.timers {
        guest::timers::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    Ok(())
}

/// Links all that plugins may be granted. Each function looks for the grant when it is called.
pub(super) fn link_everything(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    guest::broadcast::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::rooms::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::emit::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::ask::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::http::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::sockets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::history::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::presence::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::store::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    guest::timers::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Says in plain words what the usual wrong files are, before the compiler sees them.
fn check_header(bytes: &[u8]) -> Result<(), LoadError> {
    const MAGIC: &[u8] = b"\0asm";
    let reason = if bytes.is_empty() {
        "the file is empty"
    } else if !bytes.starts_with(MAGIC) {
        "it is not WebAssembly: the file does not begin with \\0asm"
    } else if is_core_module(bytes) {
        "it is a core module and not a component: build it for wasm32-wasip2, or with `mixlab build`"
    } else {
        return Ok(());
    };
    Err(LoadError::NotAComponent(reason.to_owned()))
}
