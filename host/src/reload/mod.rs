//! Plugins and `mixlab.toml` follow the files they came from while clients stay connected.
//!
//! One task does all loading and unloading, so that two changes can never race: file event →
//! debounce → content hash → load → publish. Whatever fails leaves the old version serving and
//! says why.

mod slot;
mod status;
mod watch;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::status::{PluginState, PluginStatus, Status};
use self::{
    slot::{Candidate, Refusal, Slot},
    watch::Watch,
};
use crate::{
    admission::RateLimits,
    config::{self, Config, Overrides},
    dispatch::Dispatcher,
    metrics::CONFIG_FILE,
    panics::caught,
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
    /// What the server was started with: what needs a restart is held against this.
    started: Config,
    source: Option<ConfigSource>,
    secret: Arc<[u8]>,
    slots: Vec<Slot>,
    /// The last generations of plugins that were switched off: a number never means two versions.
    generations: HashMap<String, u64>,
    limits: Arc<RateLimits>,
    engine: Arc<Engine>,
    dispatcher: Arc<Dispatcher>,
    /// Why the newest `mixlab.toml` is not in force.
    config_error: Option<String>,
    config_stamp: Option<watch::Stamp>,
    status: Arc<ArcSwap<Status>>,
    published: Arc<Notify>,
}

/// Asks the reload task to look at all files now; answered when it has.
pub type Request = oneshot::Sender<()>;

impl Reloader {
    /// Nothing is loaded yet. `published` tells who cares that plugins have changed.
    pub fn new(
        config: Config,
        source: Option<ConfigSource>,
        secret: Arc<[u8]>,
        engine: Arc<Engine>,
        dispatcher: Arc<Dispatcher>,
        limits: Arc<RateLimits>,
        published: Arc<Notify>,
    ) -> Self {
        let config_stamp = source
            .as_ref()
            .and_then(|source| watch::Stamp::of(&source.path));
        Self {
            started: config.clone(),
            config,
            source,
            secret,
            slots: Vec::new(),
            generations: HashMap::new(),
            limits,
            engine,
            dispatcher,
            config_error: None,
            config_stamp,
            status: Arc::default(),
            published,
        }
    }

    /// What `plugin list` and health show; always the latest.
    pub fn status(&self) -> Arc<ArcSwap<Status>> {
        self.status.clone()
    }

    /// Brings everything in line with the files as they are now.
    pub async fn refresh(&mut self) {
        self.follow_config();
        let Matched {
            reordered,
            switched_off,
            regranted,
        } = self.match_slots();
        let loaded = self.load_all().await;
        // Namespaces that are no longer granted are no longer served, whether it loads or not.
        let mut changed = reordered || switched_off || regranted || loaded.any;
        if switched_off || regranted || loaded.replaced {
            for slot in &mut self.slots {
                slot.unblock();
            }
            changed |= self.load_all().await.any;
        }
        if changed {
            self.publish();
        }
        self.forget_gone();
        self.report();
    }

    /// Follows the files until `stop`.
    pub async fn run(&mut self, requests: &mut mpsc::Receiver<Request>, stop: &CancellationToken) {
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
                self.dispatcher.metrics.reloaded(CONFIG_FILE, true);
                if config == self.config {
                    return;
                }
                let restart = self.started.restart_needed(&config);
                if !restart.is_empty() {
                    tracing::warn!(keys = restart.join(", "), "these changes need a restart");
                }
                let known = self.config.doubts();
                for doubt in config.doubts() {
                    if !known.contains(&doubt) {
                        tracing::warn!("{doubt}");
                    }
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
                self.dispatcher.metrics.reloaded(CONFIG_FILE, false);
                tracing::error!("the old configuration stays in force: {error}");
                self.config_error = Some(error.to_string());
            }
        }
    }

    /// One slot for each plugin that is switched on, in the order of the file.
    fn match_slots(&mut self) -> Matched {
        let mut former = std::mem::take(&mut self.slots);
        let names = |slots: &[Slot]| -> Vec<String> {
            slots.iter().map(|slot| slot.name().to_owned()).collect()
        };
        let former_order = names(&former);
        let mut regranted = false;
        for plugin in self.config.plugins.iter().filter(|plugin| plugin.enabled) {
            let same = former.iter().position(|slot| slot.name() == plugin.name);
            let slot = match same {
                Some(index) => {
                    let slot = former.remove(index);
                    regranted |= *slot.grants() != plugin.grants;
                    slot.with_spec(plugin.clone())
                }
                None => {
                    let generation = self.generations.remove(&plugin.name);
                    Slot::new(plugin.clone(), generation.unwrap_or_default())
                }
            };
            self.slots.push(slot);
        }
        for slot in &former {
            self.generations
                .insert(slot.name().to_owned(), slot.generation());
            tracing::info!(plugin = slot.name(), "the plugin was switched off");
        }
        let retired: Vec<_> = former
            .iter()
            .filter_map(|slot| slot.served().cloned())
            .collect();
        let switched_off = !retired.is_empty();
        self.retire(retired);
        Matched {
            reordered: names(&self.slots) != former_order,
            switched_off,
            regranted,
        }
    }

    async fn load_all(&mut self) -> Loaded {
        let mut all = Loaded::default();
        for index in 0..self.slots.len() {
            let one = self.load(index).await;
            all.any |= one.any;
            all.replaced |= one.replaced;
        }
        all
    }

    /// Loads a plugin's file if it is not the one that was loaded last.
    async fn load(&mut self, index: usize) -> Loaded {
        let Some(candidate) = self.slots[index].candidate(&self.config.breaker) else {
            return Loaded::default();
        };
        let began = Instant::now();
        let name = self.slots[index].name().to_owned();
        let loaded = match candidate {
            Ok(candidate) => self.try_out(candidate, index).await,
            Err(unreadable) => Err(Refusal::Unreadable(unreadable)),
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
                let replaced = former.is_some();
                self.retire(former.into_iter().collect());
                Loaded {
                    any: true,
                    replaced,
                }
            }
            Err(refusal) => {
                let serving = if self.slots[index].served().is_some() {
                    "the old version goes on serving"
                } else {
                    "it does not serve"
                };
                let reason = refusal.reason();
                tracing::warn!(plugin = name, "the plugin was refused, {serving}: {reason}");
                self.slots[index].refuse(refusal);
                Loaded::default()
            }
        }
    }

    /// Loads a candidate for a slot and holds it against the other plugins.
    async fn try_out(&self, candidate: Candidate, index: usize) -> Result<Served, Refusal> {
        let Dispatcher {
            broadcast, metrics, ..
        } = &*self.dispatcher;
        let engine = self.engine.clone();
        let loading = candidate.load(engine, broadcast.clone(), &self.limits, metrics);
        // The task that follows the files must outlive whatever a file makes a library do.
        let loaded = caught(loading).await;
        let loaded = loaded
            .unwrap_or_else(|panic| Err(format!("the host panicked while loading it: {panic}")));
        let served = loaded.map_err(Refusal::Content)?;
        match served.conflict(self.others(index)) {
            Some(conflict) => Err(Refusal::Conflict(conflict.to_string())),
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
        self.dispatcher.registry.store(Arc::new(registry));
        self.published.notify_one();
    }

    /// What was counted for plugins and events goes with them.
    fn forget_gone(&self) {
        let live = self.slots.iter().map(|slot| {
            let routes = slot.served().map(|served| served.routes.as_slice());
            let events = routes.unwrap_or_default().iter();
            (
                slot.name(),
                events.map(|route| route.contract.event.as_str()).collect(),
            )
        });
        self.dispatcher.metrics.forget_gone(&live.collect());
    }

    fn report(&self) {
        let status = |plugin: &config::Plugin| {
            let slot = self.slots.iter().find(|slot| slot.name() == plugin.name);
            slot.map_or_else(|| PluginStatus::disabled(plugin), Slot::status)
        };
        let plugins = self.config.plugins.iter().map(status).collect();
        self.status.store(Arc::new(Status {
            config_error: self.config_error.clone(),
            plugins,
        }));
    }
}

/// How the slots changed with `mixlab.toml`.
struct Matched {
    reordered: bool,
    switched_off: bool,
    /// Some plugin has other grants.
    regranted: bool,
}

/// What loading brought.
#[derive(Default)]
struct Loaded {
    /// Some plugin serves that did not before, or a new version of it.
    any: bool,
    /// Some version was replaced.
    replaced: bool,
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
