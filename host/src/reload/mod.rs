//! Plugins and `mixlab.toml` follow the files they came from while clients stay connected.
//!
//! One task does all loading and unloading, so that two changes can never race: file event →
//! debounce → content hash → load → publish. Whatever fails leaves the old version serving and
//! says why; what fails for a passing reason is tried again.

mod builds;
mod certificates;
mod file;
mod pull;
mod request;
mod slot;
mod status;
mod versions;
mod watch;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, watch::Sender as Watched},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::status::Status;
pub(crate) use self::{
    builds::{Builds, FailedBuild},
    pull::pull_missing,
};
use self::{
    certificates::Certificates,
    file::{EMPTIED_WAIT, Followed, Stamp},
    slot::{Candidate, Good, Refusal, Slot, Todo},
    watch::{Changed, Watch},
};
pub(crate) use self::{
    request::{Asked, NotDone, Request},
    status::{PluginState, PluginStatus},
    versions::Load,
};
use crate::{
    admission::RateLimits,
    audit::{Audit, Entry, shown},
    auth::Providers,
    config::{self, Config, ConfigError, Overrides},
    inspection::{Inspection, diff},
    metrics::{CONFIG_FILE, Metrics},
    panics::caught,
    plugin::{Engine, LoadError, Migrated, Plugin, Services},
    registry::{self, Registry, Served},
    revocation::Revocations,
    settings::{self, Settings},
    shorten::shortened,
    tls,
    units::duration,
};

/// How much is kept of why a plugin is refused. Its own words may be much longer.
const MAX_REASON_CHARS: usize = 4096;

/// How often the files are looked at even without an event: for folders that did not exist,
/// network file systems, and whatever else a watcher does not see.
const SWEEP: Duration = Duration::from_secs(1);

/// Files that never come to rest are read after so many debounce times all the same.
const MAX_DEBOUNCES: u32 = 20;

/// A script is read so soon after it was saved: editors write it in one go, and what is read halfway is
/// refused, and read again.
const SCRIPT_DEBOUNCE: Duration = Duration::from_millis(15);

/// So many changes wait to be told of, before it is enough to know that there are some.
const CHANGES: usize = 64;

/// A plugin that could not be loaded for a passing reason is tried again after so many times as long as
/// the try took, so that trying costs a tenth of a processor at most.
const RETRY_PACE: u32 = 10;

/// Where the configuration comes from, to be read again when it changes.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// What the command line said over it.
    pub overrides: Overrides,
    /// The builds of plugins, if this process builds them from their sources.
    pub builds: Option<Arc<Builds>>,
}

/// Which files to deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    /// Those that look different from when they were last dealt with, when they have come to rest.
    Changed,
    /// All of them, as they are now: somebody asked.
    All,
}

/// What follows the files.
pub(crate) struct Targets {
    /// Who handles what.
    pub registry: registry::Current,
    /// What of `mixlab.toml` changes while the server runs.
    pub settings: settings::Current,
    /// What plugins share.
    pub services: Services,
    /// What clients are shown, where there is TLS.
    pub tls: Option<tls::Current>,
    /// Counts loads.
    pub metrics: Arc<Metrics>,
    /// Who may do what from now on.
    pub audit: Audit,
    /// Whose keys are fetched.
    pub providers: Arc<Providers>,
    /// Tokens that are good no more.
    pub revocations: Arc<Revocations>,
}

/// Loads plugins and keeps them current. To be driven by [`Reloader::run`].
pub(crate) struct Reloader {
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
    targets: Targets,
    /// Why the newest `mixlab.toml` is not in force.
    config_error: Option<String>,
    /// Why it is not in force yet.
    config_waiting: Option<String>,
    config_file: Followed,
    certificates: Option<Certificates>,
    status: Arc<ArcSwap<Status>>,
    published: Watched<()>,
}

impl Reloader {
    /// Nothing is loaded yet. `published` tells who cares that plugins have changed.
    pub(crate) fn new(
        config: Config,
        source: Option<ConfigSource>,
        secret: Arc<[u8]>,
        engine: Arc<Engine>,
        targets: Targets,
        limits: Arc<RateLimits>,
        published: Watched<()>,
    ) -> Self {
        let certificates = targets.tls.clone().zip(config.tls.clone());
        let certificates = certificates.map(|(published, config)| {
            targets.metrics.show_certificates(&published.load());
            Certificates::new(published, config)
        });
        Self {
            started: config.clone(),
            config,
            source,
            secret,
            slots: Vec::new(),
            generations: HashMap::new(),
            limits,
            engine,
            targets,
            config_error: None,
            config_waiting: None,
            // It may have changed since the configuration was read.
            config_file: Followed::default(),
            certificates,
            status: Arc::default(),
            published,
        }
    }

    /// What `plugin list` and health show; always the latest.
    pub(crate) fn status(&self) -> Arc<ArcSwap<Status>> {
        self.status.clone()
    }

    /// Brings everything in line with the files as they are now.
    pub(crate) async fn refresh(&mut self) {
        self.follow(Files::All, None).await;
    }

    /// Does what somebody asks for.
    async fn perform(&mut self, asked: &Asked, by: Arc<str>) -> Result<(), NotDone> {
        let (name, is_rollback) = match asked {
            Asked::Refresh => {
                self.follow(Files::All, Some(by)).await;
                return Ok(());
            }
            Asked::Reload(name) => (name, false),
            Asked::RollBack(name) => (name, true),
        };
        let index = self.slots.iter().position(|slot| slot.name() == name);
        let is_named = |plugin: &config::Plugin| plugin.name == *name;
        let index = index.ok_or_else(|| match self.config.plugins.iter().any(is_named) {
            true => NotDone::Disabled,
            false => NotDone::Unknown,
        })?;
        let slot = &mut self.slots[index];
        let (loaded, problem) = match is_rollback {
            true => {
                let former = slot.former().ok_or(NotDone::NoFormer)?;
                match self.put_in_place(former, index, Some(by.clone())).await {
                    Ok(loaded) => (loaded, None),
                    Err(refusal) => {
                        let reason = refusal.reason().to_owned();
                        tracing::warn!(plugin = name, by = &*by, "it is not rolled back: {reason}");
                        self.targets.audit.write(|| Entry::PluginRefused {
                            plugin: name,
                            reason: &reason,
                        });
                        self.slots[index].rollback_refused(&reason, by);
                        (Loaded::default(), Some(reason))
                    }
                }
            }
            false => {
                slot.start_over();
                let loaded = self.load(index, Files::All, Some(by)).await;
                (loaded, self.slots[index].problem().map(str::to_owned))
            }
        };
        self.settle(Matched::default(), loaded, Files::Changed)
            .await;
        match problem {
            None => Ok(()),
            Some(reason) => Err(NotDone::Refused(reason)),
        }
    }

    async fn follow(&mut self, files: Files, by: Option<Arc<str>>) {
        self.follow_config(files).await;
        // Without it, the next start will be without TLS.
        let tls = self.config.tls.as_ref().or(self.started.tls.as_ref());
        if let (Some(certificates), Some(config)) = (&mut self.certificates, tls) {
            let metrics = &self.targets.metrics;
            certificates.follow(config, files, metrics).await;
        }
        if files == Files::All {
            self.slots.iter_mut().for_each(Slot::reconsider);
        }
        let matched = self.match_slots();
        let loaded = self.load_all(files, by).await;
        self.settle(matched, loaded, files).await;
    }

    /// Publishes what has changed.
    async fn settle(&mut self, matched: Matched, loaded: Loaded, files: Files) {
        let Matched {
            reordered,
            switched_off,
            regranted,
        } = matched;
        // Namespaces that are no longer granted are no longer served, whether it loads or not.
        let mut changed = reordered || switched_off || regranted || loaded.any;
        if switched_off || regranted || loaded.replaced {
            for slot in &mut self.slots {
                slot.unblock();
            }
            changed |= self.load_all(files, None).await.any;
        }
        if changed {
            self.publish();
        }
        self.forget_gone();
        self.report();
    }

    /// Follows the files until `stop`.
    pub(crate) async fn run(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        stop: &CancellationToken,
    ) {
        let (events, mut changes) = mpsc::channel(CHANGES);
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
                Some(changed) = changes.recv() => {
                    pending.get_or_insert_with(|| Pending::new(changed)).touch(changed);
                }
                _ = sweep.tick() => {
                    if pending.is_none() && self.changed_on_disk().await {
                        pending = Some(Pending::new(Changed::Files));
                    }
                    watch.follow(self.paths());
                    self.limits.forget_idle();
                    if let Some(certificates) = &mut self.certificates {
                        certificates.remind(Instant::now());
                    }
                }
                Some(Request { asked, by, answer }) = requests.recv() => {
                    let done = self.perform(&asked, by).await;
                    // Whoever asked may have gone.
                    let _ = answer.send(done);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    pending = None;
                    self.follow(Files::Changed, None).await;
                    watch.follow(self.paths());
                }
            }
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let config = self.source.iter().map(|source| source.path.clone());
        let of_slot = |slot: &Slot| {
            let imports = slot.imports().iter().cloned();
            imports.chain([slot.path().to_owned()]).collect::<Vec<_>>()
        };
        let certificates = self.certificates.iter().flat_map(Certificates::paths);
        let config = config.chain(certificates.cloned());
        config.chain(self.slots.iter().flat_map(of_slot)).collect()
    }

    /// Whether some file has to be dealt with, whatever the watcher saw.
    async fn changed_on_disk(&self) -> bool {
        let config = self.source.iter();
        let config = config.map(|source| (source.path.clone(), Vec::new()));
        let certificates = self.certificates.iter().flat_map(Certificates::paths);
        let certificates = certificates.map(|path| (path.clone(), Vec::new()));
        let slots = self.slots.iter();
        let slots = slots.map(|slot| (slot.path().to_owned(), slot.imports().to_vec()));
        let files: Vec<(PathBuf, Vec<PathBuf>)> = config.chain(certificates).chain(slots).collect();
        // A folder on a network may take its time.
        let looking = tokio::task::spawn_blocking(move || {
            let files = files.iter();
            files
                .map(|(path, imports)| Stamp::of(path, imports))
                .collect::<Vec<_>>()
        });
        let Ok(stamps) = looking.await else {
            return true;
        };
        let config = self.source.iter().map(|_| &self.config_file);
        let certificates = self.certificates.iter().flat_map(Certificates::known);
        let slots = self.slots.iter().map(Slot::file);
        let files = config.chain(certificates).chain(slots);
        files
            .zip(&stamps)
            .any(|(file, stamp)| file.is_due(stamp.as_ref()))
    }

    /// Reads `mixlab.toml` again if it changed, and puts what may change live in force.
    async fn follow_config(&mut self, files: Files) {
        let Some(ConfigSource {
            path, overrides, ..
        }) = self.source.clone()
        else {
            return;
        };
        if files == Files::All {
            self.config_file.forget();
        }
        let seen = self.config_file.seen().cloned();
        let reading = tokio::task::spawn_blocking(move || {
            let stamp = Stamp::of(&path, &[]);
            let is_same = stamp.is_some() && stamp == seen;
            (!is_same).then(|| (stamp, Config::load(&path, overrides)))
        });
        match reading.await {
            Ok(None) => {}
            Ok(Some((stamp, Ok(config)))) => self.take_config(stamp, config, files),
            Ok(Some((stamp, Err(error)))) => {
                match error {
                    // The file is good for all that is known.
                    ConfigError::Unreadable { .. } => self.config_file.forget(),
                    _ => self.config_file.dealt_with(stamp),
                }
                self.refuse_config(error.to_string());
            }
            Err(error) => self.refuse_config(error.to_string()),
        }
    }

    fn refuse_config(&mut self, error: String) {
        self.config_waiting = None;
        if self.config_error.as_ref() == Some(&error) {
            return;
        }
        self.targets.metrics.reloaded(CONFIG_FILE, false);
        tracing::error!("the old configuration stays in force: {error}");
        let reason = &error;
        self.targets.audit.write(|| Entry::ConfigRefused { reason });
        self.config_error = Some(error);
    }

    /// Puts a configuration in force, unless whoever writes it may have more to write.
    fn take_config(&mut self, stamp: Option<Stamp>, config: Config, files: Files) {
        self.config_error = None;
        let is_empty = stamp.as_ref().is_some_and(Stamp::is_empty);
        if files == Files::Changed
            && let Some(loss) = loss(&self.config, &config, is_empty)
            && !self.config_file.postpone(stamp.clone(), EMPTIED_WAIT)
        {
            let wait = duration::display(EMPTIED_WAIT);
            let waiting = format!("{loss}, and is in force if it stays so for {wait}");
            if self.config_waiting.as_ref() != Some(&waiting) {
                tracing::warn!("mixlab.toml is waited for: {waiting}");
            }
            self.config_waiting = Some(waiting);
            return;
        }
        self.config_waiting = None;
        self.config_file.dealt_with(stamp);
        self.targets.metrics.reloaded(CONFIG_FILE, true);
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
        let Targets {
            providers,
            revocations,
            ..
        } = &self.targets;
        let settings = Settings::new(&config, &self.secret, &self.limits, providers, revocations);
        self.targets.settings.store(Arc::new(settings));
        let in_force = |config| self.started.in_force(config);
        let (former, now) = (in_force(&self.config), in_force(&config));
        self.targets.audit.configured(&former, &now, restart);
        self.config = config;
        let file = self
            .source
            .as_ref()
            .map(|source| source.path.display().to_string());
        tracing::info!(file, "the configuration was reloaded");
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
                    regranted |= *slot.grants() != plugin.grants
                        || slot.filter() != plugin.filter
                        || slot.guards() != plugin.guards;
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
            let plugin = slot.name();
            self.targets.audit.write(|| Entry::PluginOff { plugin });
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

    async fn load_all(&mut self, files: Files, by: Option<Arc<str>>) -> Loaded {
        let mut all = Loaded::default();
        for index in 0..self.slots.len() {
            let one = self.load(index, files, by.clone()).await;
            all.any |= one.any;
            all.replaced |= one.replaced;
        }
        all
    }

    /// Loads a plugin's file if it is not the one that was loaded last.
    async fn load(&mut self, index: usize, files: Files, by: Option<Arc<str>>) -> Loaded {
        let wait = match files {
            Files::Changed => EMPTIED_WAIT,
            Files::All => Duration::ZERO,
        };
        let builds = self
            .source
            .as_ref()
            .and_then(|source| source.builds.clone());
        let found = self.slots[index].look().await;
        let todo = self.slots[index].consider(found, wait, builds.as_deref());
        let refusal = match todo {
            Todo::Nothing => return Loaded::default(),
            Todo::Refuse(refusal) => refusal,
            Todo::Try(candidate) => match self.put_in_place(candidate, index, by.clone()).await {
                Ok(loaded) => return loaded,
                Err(refusal) => refusal,
            },
        };
        let slot = &mut self.slots[index];
        let name = slot.name().to_owned();
        if !slot.knows(&refusal) {
            self.targets.metrics.reloaded(&name, false);
            let (filter, guard) = (slot.absent_filter(), slot.guard());
            let serving = match (slot.served(), filter.is_some(), guard.is_some()) {
                (Some(_), ..) => "the old version goes on serving",
                (None, false, false) => "it does not serve",
                (None, true, false) => "it does not serve, and what it is to filter is refused",
                (None, false, true) => "it does not serve, and nobody enters what it guards",
                (None, true, true) => {
                    "it does not serve, what it is to filter is refused, and nobody enters what it guards"
                }
            };
            let reason = refusal.reason();
            tracing::warn!(
                plugin = name,
                by = by.as_deref(),
                "the plugin was refused, {serving}: {reason}"
            );
            self.targets.audit.write(|| Entry::PluginRefused {
                plugin: &name,
                reason,
            });
        }
        slot.refuse(refusal, by);
        Loaded::default()
    }

    /// Has a candidate serve instead of the version that does, if it is good.
    async fn put_in_place(
        &mut self,
        candidate: Candidate,
        index: usize,
        by: Option<Arc<str>>,
    ) -> Result<Loaded, Refusal> {
        let began = Instant::now();
        let (candidate, good) = self.try_out(candidate, index).await?;
        let (candidate, good, migrated) = self.migrate(candidate, good, index).await?;
        let slot = &mut self.slots[index];
        let (name, took) = (slot.name().to_owned(), began.elapsed());
        self.targets.metrics.reloaded(&name, true);
        tracing::info!(
            plugin = name,
            version = good.served.version,
            generation = good.served.plugin.generation(),
            took_ms = took.as_millis() as u64,
            by = by.as_deref(),
            "the plugin serves {} events",
            good.served.routes.len()
        );
        self.targets.audit.write(|| Entry::PluginServes {
            plugin: &name,
            version: &good.served.version,
            generation: good.served.plugin.generation(),
            sha256: candidate.hash().to_string(),
            grants: shown(slot.grants().iter()),
        });
        let done = migrated.as_ref().map(|migrated| migrated.done().clone());
        let former = slot.serve(candidate, good, done, took, by);
        let replaced = former.is_some();
        self.retire(former.into_iter().collect());
        if let Some(migrated) = migrated {
            // Calls of the former version wait for this one.
            self.publish();
            migrated.hand_over();
        }
        Ok(Loaded {
            any: true,
            replaced,
        })
    }

    /// Loads a candidate for a slot and holds it against the other plugins.
    async fn try_out(
        &self,
        candidate: Candidate,
        index: usize,
    ) -> Result<(Candidate, Good), Refusal> {
        let slot = &self.slots[index];
        let source = slot.source(&candidate, &self.config.breaker);
        let Targets {
            services, metrics, ..
        } = &self.targets;
        let (generation, health) = (slot.generation() + 1, slot.health().clone());
        let calls = metrics.calls_of(&source.name);
        let loading = Plugin::load(
            self.engine.clone(),
            services.clone(),
            source,
            generation,
            health,
            calls,
        );
        let began = Instant::now();
        let reason = |error: &dyn std::fmt::Display| shortened(error, MAX_REASON_CHARS);
        // The task that follows the files must outlive whatever a file makes a library do.
        let loaded = caught(async {
            let (plugin, description) = loading.await?;
            let (limits, metrics) = (self.limits.clone(), metrics.clone());
            let about = Arc::new(Inspection::new(&description, &plugin));
            let served = Served::new(plugin, description, limits, metrics).await;
            Ok(served.map(|served| (served, about)))
        });
        let loaded = loaded.await;
        let (served, about) = match loaded.unwrap_or_else(|panic| Err(LoadError::Panicked(panic))) {
            Ok(Ok(good)) => good,
            Ok(Err(error)) => return Err(Refusal::Content(candidate, reason(&error))),
            Err(error) if error.is_passing() => {
                let wait = began.elapsed() * RETRY_PACE;
                return Err(Refusal::Passing(candidate, reason(&error), wait));
            }
            Err(error) => return Err(Refusal::Content(candidate, reason(&error))),
        };
        if let Some(conflict) = served.conflict(self.others(index)) {
            return Err(Refusal::Conflict(candidate, conflict.to_string()));
        }
        let changes = match slot.about() {
            None => Vec::new(),
            Some(old) => {
                // As much to do as plugins have said of themselves.
                let new = about.clone();
                let comparing = served.plugin.aside(move || diff(&old, &new));
                comparing.await.unwrap_or_default()
            }
        };
        let good = Good {
            served,
            about,
            changes,
        };
        Ok((candidate, good))
    }

    /// Brings what a slot's plugin has stored into the form of a version that is about to serve.
    async fn migrate(
        &self,
        candidate: Candidate,
        good: Good,
        index: usize,
    ) -> Result<(Candidate, Good, Option<Migrated>), Refusal> {
        let former = self.slots[index].served().map(|served| &served.plugin);
        let began = Instant::now();
        match good.served.plugin.migrate(former).await {
            Ok(migrated) => Ok((candidate, good, migrated)),
            Err(error) => {
                let reason = shortened(&error, MAX_REASON_CHARS);
                Err(match error.is_passing() {
                    true => Refusal::Passing(candidate, reason, began.elapsed() * RETRY_PACE),
                    false => Refusal::Content(candidate, reason),
                })
            }
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
        let absent_filters = self.slots.iter().filter_map(Slot::absent_filter);
        let absent_filters = absent_filters.collect();
        let guards = self.slots.iter().filter_map(Slot::guard).collect();
        let served = self.slots.iter().filter_map(Slot::served);
        let registry = Registry::new(served, absent_filters, guards);
        self.targets.registry.store(Arc::new(registry));
        self.published.send_replace(());
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
        self.targets.metrics.forget_gone(&live.collect());
    }

    fn report(&self) {
        let status = |plugin: &config::Plugin| {
            let slot = self.slots.iter().find(|slot| slot.name() == plugin.name);
            slot.map_or_else(|| PluginStatus::disabled(plugin), Slot::status)
        };
        let plugins = self.config.plugins.iter().map(status).collect();
        self.status.store(Arc::new(Status {
            config_error: self.config_error.clone(),
            config_waiting: self.config_waiting.clone(),
            certificate_error: self
                .certificates
                .as_ref()
                .and_then(Certificates::error)
                .cloned(),
            plugins,
        }));
    }
}

/// What a configuration takes away that another begins with, if it may be the beginning of a file that is
/// still being written.
fn loss(former: &Config, new: &Config, is_empty: bool) -> Option<String> {
    if is_empty {
        return Some("it is empty".to_owned());
    }
    let switched_on = |config: &Config| config.plugins.iter().any(|plugin| plugin.enabled);
    if switched_on(former) && !switched_on(new) {
        return Some("it takes away every plugin".to_owned());
    }
    let is_named = |name: &str| new.plugins.iter().any(|plugin| plugin.name == name);
    let gone = former
        .plugins
        .iter()
        .find(|plugin| plugin.enabled && !is_named(&plugin.name))?;
    Some(format!(
        "it does not name the plugin {:?} any more",
        gone.name
    ))
}

/// How the slots changed with `mixlab.toml`.
#[derive(Default)]
struct Matched {
    reordered: bool,
    switched_off: bool,
    /// Some plugin has other grants, or has to filter or to guard what it had not to.
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
    changed: Changed,
}

impl Pending {
    fn new(changed: Changed) -> Self {
        let now = Instant::now();
        Self {
            first: now,
            last: now,
            changed,
        }
    }

    fn touch(&mut self, changed: Changed) {
        self.last = Instant::now();
        if changed == Changed::Files {
            self.changed = changed;
        }
    }

    fn due(&self, debounce: Duration) -> Instant {
        let debounce = match self.changed {
            Changed::Scripts => debounce.min(SCRIPT_DEBOUNCE),
            Changed::Files => debounce,
        };
        (self.last + debounce).min(self.first + debounce * MAX_DEBOUNCES)
    }
}
