//! One generation of a plugin: what it is, what it may do, and what it has to run on.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::SetOnce, task::JoinHandle};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    breaker::Breaker,
    call_error::CallError,
    engine::Engine,
    health::Health,
    instance::{Offer, Prepared},
    pool::Pool,
    script::LAST_WORDS,
    source::Source,
    witness::Witness,
};
use crate::{
    broadcast::Broadcast,
    capability::{HttpAccess, Places},
    config::{self, Budget, FilterFailure},
    grant::Grants,
    metrics::CallMetrics,
    record::Recorder,
    store::Open,
};

/// One generation of a plugin: a version of its code with its grants and budget, ready to be
/// called. It is dropped when its last call has ended.
pub struct Plugin {
    pub(super) source: Source,
    pub(super) generation: u64,
    /// As it says; known when it has described itself.
    pub(super) version: OnceLock<String>,
    /// The version of the form in which it stores; known then, too.
    pub(super) data_version: OnceLock<u32>,
    /// What it has of what is optional; known then, too.
    pub(super) offer: OnceLock<Offer>,
    /// Whether what is stored is, or may be by now, in the form of another version.
    pub(super) is_outdated: AtomicBool,
    /// The version that has taken its place with what is stored.
    pub(super) successor: SetOnce<Arc<Plugin>>,
    pub(super) prepared: Prepared,
    pub(super) pool: Arc<Pool>,
    /// Where calls wait for acks of clients.
    pub(super) asks: Arc<Places>,
    /// What its calls send requests with.
    pub(super) http: Arc<HttpAccess>,
    pub(super) health: Arc<Health>,
    pub(super) breaker: Breaker,
    pub(super) metrics: CallMetrics,
    pub(super) engine: Arc<Engine>,
    pub(super) broadcast: Broadcast,
    /// Open, if it uses the store.
    pub(super) store: Option<Open>,
    /// Those of its calls that kept conflicting run one after the other.
    pub(super) contended: Arc<tokio::sync::Mutex<()>>,
    pub(super) witness: Option<Arc<Witness>>,
    pub(super) recorder: Option<Arc<Recorder>>,
    pub(super) retired: CancellationToken,
}

impl Plugin {
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
