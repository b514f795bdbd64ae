//! Plugins and `mixlab.toml` follow the files they came from while clients stay connected.
//!
//! One task does all loading and unloading, so that two changes can never race: file event →
//! debounce → content hash → load → publish. Whatever fails leaves the old version serving and
//! says why.

mod slot;
mod status;
mod watch;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot, watch as channel},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::status::{PluginState, PluginStatus, Status};
use self::{
    slot::{Candidate, Slot},
    watch::Watch,
};
use crate::{
    admission::RateLimits,
    config::{Config, Overrides},
    dispatch::Dispatcher,
    plugin::Engine,
    registry::{Registry, Served},
    settings::Settings,
};

/// How often the files are looked at even without an event: for folders that did not exist,
/// network file systems, and whatever else a watcher does not see.
const SWEEP: Duration = Duration::from_secs(1);

/// Files that never come to rest are read after so many debounce times all the same.
const MAX_DEBOUNCES: u32 = 20;

/// Where the configuration comes from, to be read again when it changes.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// What the command line said over it.
    pub overrides: Overrides,
}

/// Loads plugins and keeps them current. To be driven by [`Reloader::run`].
pub struct Reloader {
    config: Config,
    source: Option<ConfigSource>,
    secret: Arc<[u8]>,
    slots: Vec<Slot>,
    limits: Arc<RateLimits>,
    engine: Arc<Engine>,
    dispatcher: Arc<Dispatcher>,
    /// Why the newest `mixlab.toml` is not in force.
    config_error: Option<String>,
    config_stamp: Option<watch::Stamp>,
    status: Arc<ArcSwap<Status>>,
    namespaces: channel::Sender<Vec<String>>,
}

/// Asks the reload task to look at all files now; answered when it has.
pub type Request = oneshot::Sender<()>;

impl Reloader {
    /// Nothing is loaded yet. `namespaces` tells who cares which ones plugins serve.
    pub fn new(
        config: Config,
        source: Option<ConfigSource>,
        secret: Arc<[u8]>,
        engine: Arc<Engine>,
        dispatcher: Arc<Dispatcher>,
        limits: Arc<RateLimits>,
        namespaces: channel::Sender<Vec<String>>,
    ) -> Self {
        let config_stamp = source
            .as_ref()
            .and_then(|source| watch::Stamp::of(&source.path));
        Self {
            config,
            source,
            secret,
            slots: Vec::new(),
            limits,
            engine,
            dispatcher,
            config_error: None,
            config_stamp,
            status: Arc::default(),
            namespaces,
        }
    }

    /// What `plugin list` and health show; always the latest.
    pub fn status(&self) -> Arc<ArcSwap<Status>> {
        self.status.clone()
    }

    /// Brings everything in line with the files as they are now.
    pub async fn refresh(&mut self) {
        self.follow_config();
        self.match_slots();
        let mut changed = false;
        for index in 0..self.slots.len() {
            changed |= self.load(index).await;
        }
        if changed {
            self.publish();
        }
        self.report();
    }

    /// Follows the files until `stop`.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        let (events, mut changes) = mpsc::channel(1);
        let mut watch = Watch::new(events);
        watch.follow(self.paths());
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Option<Pending> = None;
        loop {
            let debounce = self.config.reload.debounce;
            let due = pending.as_ref().map(|pending| pending.due(debounce));
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = changes.recv() => pending.get_or_insert_default().touch(),
                _ = sweep.tick() => {
                    if pending.is_none() && self.changed_on_disk() {
                        pending = Some(Pending::default());
                    }
                    watch.follow(self.paths());
                    self.limits.forget_idle();
                }
                Some(request) = requests.recv() => {
                    self.refresh().await;
                    // Whoever asked may have gone.
                    let _ = request.send(());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    pending = None;
                    self.refresh().await;
                    watch.follow(self.paths());
                }
            }
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let config = self.source.iter().map(|source| source.path.clone());
        config
            .chain(self.slots.iter().map(|slot| slot.path().to_owned()))
            .collect()
    }

    fn changed_on_disk(&self) -> bool {
        let config = self
            .source
            .as_ref()
            .map(|source| watch::Stamp::of(&source.path));
        config.is_some_and(|stamp| stamp != self.config_stamp)
            || self.slots.iter().any(Slot::changed_on_disk)
    }

    /// Reads `mixlab.toml` again if it changed, and puts what may change live in force.
    fn follow_config(&mut self) {
        let Some(source) = &self.source else { return };
        let stamp = watch::Stamp::of(&source.path);
        if stamp == self.config_stamp {
            return;
        }
        self.config_stamp = stamp;
        match Config::load(&source.path, source.overrides.clone()) {
            Ok(config) => {
                self.config_error = None;
                self.dispatcher.metrics.reloaded("mixlab.toml", true);
                if config == self.config {
                    return;
                }
                let restart = self.config.restart_needed(&config);
                if !restart.is_empty() {
                    tracing::warn!(keys = restart.join(", "), "these changes need a restart");
                }
                self.dispatcher.settings.store(Arc::new(Settings::new(
                    &config,
                    &self.secret,
                    &self.limits,
                )));
                self.config = config;
                tracing::info!(file = %source.path.display(), "the configuration was reloaded");
            }
            Err(error) => {
                self.dispatcher.metrics.reloaded("mixlab.toml", false);
                tracing::error!("the old configuration stays in force: {error}");
                self.config_error = Some(error.to_string());
            }
        }
    }

    /// One slot for each plugin that is switched on, in the order of the file.
    fn match_slots(&mut self) {
        let mut former = std::mem::take(&mut self.slots);
        for plugin in self.config.plugins.iter().filter(|plugin| plugin.enabled) {
            let same = former.iter().position(|slot| slot.name() == plugin.name);
            let slot = match same {
                Some(index) => former.swap_remove(index).with_spec(plugin.clone()),
                None => Slot::new(plugin.clone()),
            };
            self.slots.push(slot);
        }
        for slot in &former {
            tracing::info!(plugin = slot.name(), "the plugin was switched off");
        }
        if former.iter().any(|slot| slot.served().is_some()) {
            let retired = former
                .iter()
                .filter_map(|slot| slot.served().cloned())
                .collect();
            self.retire(retired);
            self.publish();
        }
    }

    /// Loads a plugin's file if it is not the one that was loaded last; true if it now serves.
    async fn load(&mut self, index: usize) -> bool {
        let Some(candidate) = self.slots[index].candidate(&self.config.breaker) else {
            return false;
        };
        let began = Instant::now();
        let name = self.slots[index].name().to_owned();
        let loaded = match candidate {
            Ok(candidate) => self.try_out(candidate, index).await,
            Err(unreadable) => Err(unreadable),
        };
        self.dispatcher.metrics.reloaded(&name, loaded.is_ok());
        match loaded {
            Ok(served) => {
                tracing::info!(
                    plugin = name,
                    version = served.version,
                    generation = served.plugin.generation(),
                    took_ms = began.elapsed().as_millis() as u64,
                    "the plugin serves {} events",
                    served.routes.len()
                );
                let former = self.slots[index].serve(Arc::new(served));
                self.retire(former.into_iter().collect());
                true
            }
            Err(reason) => {
                let serving = if self.slots[index].served().is_some() {
                    "the old version goes on serving"
                } else {
                    "it does not serve"
                };
                tracing::warn!(plugin = name, "the plugin was refused, {serving}: {reason}");
                self.slots[index].refuse(reason);
                false
            }
        }
    }

    /// Loads a candidate for a slot and holds it against the other plugins.
    async fn try_out(&self, candidate: Candidate, index: usize) -> Result<Served, String> {
        let Dispatcher {
            broadcast, metrics, ..
        } = &*self.dispatcher;
        let engine = self.engine.clone();
        let served = candidate
            .load(engine, broadcast.clone(), &self.limits, metrics)
            .await?;
        match served.conflict(self.others(index)) {
            Some(conflict) => Err(conflict.to_string()),
            None => Ok(served),
        }
    }

    fn others(&self, index: usize) -> impl Iterator<Item = &Arc<Served>> {
        let others = self
            .slots
            .iter()
            .enumerate()
            .filter(move |(other, _)| *other != index);
        others.filter_map(|(_, slot)| slot.served())
    }

    /// Old generations go when their last call has ended, at the latest after the drain time.
    fn retire(&self, former: Vec<Arc<Served>>) {
        let drain = self.config.reload.drain;
        for served in former {
            let plugin = Arc::downgrade(&served.plugin);
            tokio::spawn(async move {
                tokio::time::sleep(drain).await;
                if let Some(plugin) = plugin.upgrade() {
                    plugin.retire();
                }
            });
        }
    }

    fn publish(&self) {
        let registry = Registry::new(self.slots.iter().filter_map(Slot::served));
        let mut namespaces: Vec<String> = registry.namespaces().map(str::to_owned).collect();
        namespaces.sort_unstable();
        self.dispatcher.registry.store(Arc::new(registry));
        self.namespaces.send_if_modified(|current| {
            let modified = *current != namespaces;
            *current = namespaces;
            modified
        });
    }

    fn report(&self) {
        let disabled = self.config.plugins.iter().filter(|plugin| !plugin.enabled);
        let plugins = self
            .slots
            .iter()
            .map(Slot::status)
            .chain(disabled.map(PluginStatus::disabled));
        let status = Status {
            config_error: self.config_error.clone(),
            plugins: plugins.collect(),
        };
        self.status.store(Arc::new(status));
    }
}

/// Changes that wait for the files to come to rest.
struct Pending {
    first: Instant,
    last: Instant,
}

impl Default for Pending {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            first: now,
            last: now,
        }
    }
}

impl Pending {
    fn touch(&mut self) {
        self.last = Instant::now();
    }

    fn due(&self, debounce: Duration) -> Instant {
        (self.last + debounce).min(self.first + debounce * MAX_DEBOUNCES)
    }
}
