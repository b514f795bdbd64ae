//! From a plugin's file to a version that serves, or to the reason why it does not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Files, Reloader, Targets,
    file::EMPTIED_WAIT,
    slot::{Candidate, Good, Refusal, Slot, Todo},
};
use crate::{
    audit::{Entry, shown},
    inspection::{Inspection, diff},
    panics::caught,
    plugin::{LoadError, Migrated, Plugin},
    registry::Served,
    shorten::shortened,
};

/// How much is kept of why a plugin is refused. Its own words may be much longer.
const MAX_REASON_CHARS: usize = 4096;

/// A plugin that could not be loaded for a passing reason is tried again after so many times as long as
/// the try took, so that trying costs a tenth of a processor at most.
const RETRY_PACE: u32 = 10;

/// What loading brought.
#[derive(Default)]
pub(super) struct Loaded {
    /// Some plugin serves that did not before, or a new version of it.
    pub any: bool,
    /// Some version was replaced.
    pub replaced: bool,
}

impl Reloader {
    /// Loads the files of all plugins that are not the ones that were loaded last.
    pub(super) async fn load_all(&mut self, files: Files, by: Option<Arc<str>>) -> Loaded {
        let mut all = Loaded::default();
        for index in 0..self.slots.len() {
            let one = self.load(index, files, by.clone()).await;
            all.any |= one.any;
            all.replaced |= one.replaced;
        }
        all
    }

    /// Loads a plugin's file if it is not the one that was loaded last.
    pub(super) async fn load(
        &mut self,
        index: usize,
        files: Files,
        by: Option<Arc<str>>,
    ) -> Loaded {
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
        self.tell_refusal(index, &refusal, by.as_deref());
        self.slots[index].refuse(refusal, by);
        Loaded::default()
    }

    /// Says why a plugin's file does not serve, unless that was said already.
    fn tell_refusal(&self, index: usize, refusal: &Refusal, by: Option<&str>) {
        let slot = &self.slots[index];
        if slot.knows(refusal) {
            return;
        }
        let (plugin, reason) = (slot.name(), refusal.reason());
        self.targets.metrics.reloaded(plugin, false);
        let serving = what_serves(slot);
        tracing::warn!(plugin, by, "the plugin was refused, {serving}: {reason}");
        self.targets
            .audit
            .write(|| Entry::PluginRefused { plugin, reason });
    }

    /// Has a candidate serve instead of the version that does, if it is good.
    pub(super) async fn put_in_place(
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

    /// What serves in the other slots.
    fn others(&self, index: usize) -> impl Iterator<Item = &Arc<Served>> {
        let others = self
            .slots
            .iter()
            .enumerate()
            .filter(move |(other, _)| *other != index);
        others.filter_map(|(_, slot)| slot.served())
    }
}

/// What a plugin does whose file was refused.
fn what_serves(slot: &Slot) -> &'static str {
    let (filter, guard) = (slot.absent_filter(), slot.guard());
    match (slot.served(), filter.is_some(), guard.is_some()) {
        (Some(_), ..) => "the old version goes on serving",
        (None, false, false) => "it does not serve",
        (None, true, false) => "it does not serve, and what it is to filter is refused",
        (None, false, true) => "it does not serve, and nobody enters what it guards",
        (None, true, true) => {
            "it does not serve, what it is to filter is refused, and nobody enters what it guards"
        }
    }
}
