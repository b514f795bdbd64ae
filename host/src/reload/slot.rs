//! One plugin of `mixlab.toml`: its file, the version that serves, and why a newer one does not.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use super::{
    status::{PluginState, PluginStatus},
    watch::Stamp,
};
use crate::{
    admission::RateLimits,
    broadcast::Broadcast,
    config,
    grant::Grants,
    metrics::Metrics,
    plugin::{Content, ContentHash, Engine, Health, Plugin, Source},
    registry::Served,
    units::Size,
};
use arc_swap::ArcSwap;

/// What came of a content.
#[derive(Clone)]
enum Verdict {
    /// It is being tried.
    Open,
    Serves,
    Refused(String),
    /// Another plugin handles one of its events; to be tried again when others change.
    Blocked(String),
}

/// The place of a plugin, kept over all its generations.
pub struct Slot {
    spec: config::Plugin,
    /// The file as it was when it was last looked at.
    stamp: Option<Stamp>,
    /// The content that was tried last and what came of it; the same content is not tried twice.
    tried: Option<(ContentHash, Verdict)>,
    /// Shared by all generations: what is taken away is taken from the one that serves, too.
    grants: Arc<ArcSwap<Grants>>,
    generation: u64,
    served: Option<Arc<Served>>,
    refusal: Option<String>,
    health: Arc<Health>,
}

/// A file's content that has not been tried yet.
pub struct Candidate {
    source: Source,
    generation: u64,
    health: Arc<Health>,
}

impl Slot {
    /// Nothing loaded yet, after so many generations.
    pub fn new(spec: config::Plugin, generation: u64) -> Self {
        Self {
            grants: Arc::new(ArcSwap::from_pointee(spec.grants.clone())),
            spec,
            stamp: None,
            tried: None,
            generation,
            served: None,
            refusal: None,
            health: Arc::default(),
        }
    }

    /// The same plugin as it is configured now.
    pub fn with_spec(mut self, spec: config::Plugin) -> Self {
        if self.spec != spec {
            // Other grants, budgets or settings: to be loaded again, whatever the file holds.
            self.tried = None;
            self.grants.store(Arc::new(spec.grants.clone()));
            self.spec = spec;
        }
        self
    }

    /// The name in `mixlab.toml`.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Which load serves, or was the last that did.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What `mixlab.toml` grants it.
    pub fn grants(&self) -> &Grants {
        &self.spec.grants
    }

    /// The component's file.
    pub fn path(&self) -> &Path {
        &self.spec.path
    }

    /// The version that serves, if one does.
    pub fn served(&self) -> Option<&Arc<Served>> {
        self.served.as_ref()
    }

    /// Whether the file looks different from when it was last read.
    pub fn changed_on_disk(&self) -> bool {
        Stamp::of(&self.spec.path) != self.stamp
    }

    /// The file's content, unless the very same was tried already; an error says why the file
    /// cannot even be read.
    pub fn candidate(&mut self, breaker: &config::Breaker) -> Option<Result<Candidate, String>> {
        let stamp = Stamp::of(&self.spec.path);
        if stamp.is_some() && stamp == self.stamp && self.tried.is_some() {
            return None;
        }
        self.stamp = stamp;
        let bytes = match read(&self.spec.path, self.spec.budget.file) {
            Ok(bytes) => bytes,
            Err(reason) => {
                let known = self.refusal.as_ref() == Some(&reason);
                return (!known).then_some(Err(reason));
            }
        };
        let content = Content::new(bytes);
        let hash = content.hash();
        if let Some((tried, verdict)) = &self.tried
            && *tried == hash
        {
            // Touched, or put back after it was gone.
            self.refusal = match verdict {
                Verdict::Refused(reason) | Verdict::Blocked(reason) => Some(reason.clone()),
                Verdict::Open | Verdict::Serves => None,
            };
            return None;
        }
        self.tried = Some((hash, Verdict::Open));
        let source = Source {
            name: self.spec.name.as_str().into(),
            content,
            grants: self.grants.clone(),
            config: self.spec.config.clone(),
            budget: self.spec.budget.clone(),
            breaker: breaker.clone(),
            on_failure: self.spec.on_failure,
        };
        let (generation, health) = (self.generation + 1, self.health.clone());
        Some(Ok(Candidate {
            source,
            generation,
            health,
        }))
    }

    /// Puts a new version in place; returns the former.
    pub fn serve(&mut self, served: Arc<Served>) -> Option<Arc<Served>> {
        self.generation = served.plugin.generation();
        self.refusal = None;
        self.conclude(Verdict::Serves);
        self.served.replace(served)
    }

    /// Remembers why the newest file does not serve.
    pub fn refuse(&mut self, refusal: Refusal) {
        let (reason, verdict) = match refusal {
            Refusal::Content(reason) => (reason.clone(), Some(Verdict::Refused(reason))),
            Refusal::Conflict(reason) => (reason.clone(), Some(Verdict::Blocked(reason))),
            Refusal::Unreadable(reason) => (reason, None),
        };
        if let Some(verdict) = verdict {
            self.conclude(verdict);
        }
        self.health.failed("load", reason.as_str());
        self.refusal = Some(reason);
    }

    /// Others have changed: what another plugin stood in the way of is worth another try.
    pub fn unblock(&mut self) {
        if let Some((_, Verdict::Blocked(_))) = self.tried {
            self.tried = None;
        }
    }

    fn conclude(&mut self, verdict: Verdict) {
        if let Some((_, open)) = &mut self.tried {
            *open = verdict;
        }
    }

    /// For `plugin list` and health.
    pub fn status(&self) -> PluginStatus {
        let served = self.served.as_deref();
        PluginStatus {
            name: self.spec.name.clone(),
            state: match (served, &self.refusal) {
                (Some(_), None) => PluginState::Serving,
                (Some(_), Some(_)) => PluginState::ServingOld,
                (None, _) => PluginState::Refused,
            },
            version: served.map(|served| served.version.clone()),
            generation: self.generation,
            namespaces: served
                .map(|served| served.namespaces().map(str::to_owned).collect())
                .unwrap_or_default(),
            events: served
                .map(|served| {
                    served
                        .routes
                        .iter()
                        .map(|r| r.contract.event.clone())
                        .collect()
                })
                .unwrap_or_default(),
            refusal: self.refusal.clone(),
            health: Some(self.health.clone()),
            plugin: served.map(|served| Arc::downgrade(&served.plugin)),
            path: self.spec.path.clone(),
        }
    }
}

/// Why a file does not serve.
pub enum Refusal {
    /// It cannot be read.
    Unreadable(String),
    /// What is in it is no good.
    Content(String),
    /// Another plugin handles one of its events.
    Conflict(String),
}

impl Refusal {
    /// In words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Unreadable(reason) | Self::Content(reason) | Self::Conflict(reason) => reason,
        }
    }
}

impl Candidate {
    /// Loads it; an error says why it is refused.
    pub async fn load(
        self,
        engine: Arc<Engine>,
        broadcast: Broadcast,
        limits: &RateLimits,
        metrics: &Metrics,
    ) -> Result<Served, String> {
        let Self {
            source,
            generation,
            health,
        } = self;
        let calls = metrics.calls_of(&source.name);
        let (plugin, description) =
            Plugin::load(engine, broadcast, source, generation, health, calls)
                .await
                .map_err(|error| error.to_string())?;
        Served::new(plugin, description, limits, metrics).map_err(|error| error.to_string())
    }
}

/// The file's content, within its budget. A larger file is refused without being read.
fn read(path: &Path, budget: Size) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{}: no such file", path.display()),
        _ => format!("{}: {error}", path.display()),
    };
    // Before it is opened: a pipe would wait for somebody to write.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(format!("{}: Is a directory", path.display()));
    }
    if !metadata.is_file() {
        return Err(format!("{}: not a file", path.display()));
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more tells a file that grows meanwhile.
    let limit = budget.bytes().saturating_add(1);
    let size = metadata.len();
    if size < limit {
        bytes.reserve_exact(size as usize);
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
    }
    if size >= limit || bytes.len() as u64 >= limit {
        let size = size.max(bytes.len() as u64);
        return Err(format!(
            "it has {size} bytes; the budget file = {budget} allows no more"
        ));
    }
    Ok(bytes)
}
