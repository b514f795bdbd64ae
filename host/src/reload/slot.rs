//! One plugin of `mixlab.toml`: its file, the version that serves, and why a newer one does not.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    builds::Builds,
    file::{Followed, Look, Stamp, look},
    pull::Pull,
    status::{Detail, PluginState, PluginStatus},
    versions::{Former, Version, Versions},
};
use crate::{
    config,
    grant::Grants,
    inspection::{Change, Inspection},
    oci,
    plugin::{Code, ContentHash, Health, Migration, Source},
    registry::{AbsentFilter, Guard, Served},
    units::duration,
};

/// Files that were pulled make room for others in the order in which they were used.
fn use_from_now_on(spec: &config::Plugin) {
    if spec.pulled_from.is_some() {
        oci::touch(&spec.path);
    }
}

/// Why a file without a byte is refused.
const EMPTY: &str = "the file is empty";

/// What came of a content.
#[derive(Clone)]
enum Verdict {
    Serves,
    Refused(String),
    /// Another plugin handles one of its events; to be tried again when others change.
    Blocked(String),
}

/// The place of a plugin, kept over all its generations.
pub(super) struct Slot {
    spec: config::Plugin,
    file: Followed,
    /// What fetches it, if it comes from a registry and was not there.
    pull: Option<Pull>,
    /// Other files that belong to it, as far as is known.
    imports: Vec<PathBuf>,
    /// The content that was tried last and what came of it; the same content is not tried twice.
    tried: Option<(ContentHash, Verdict)>,
    /// Shared by all generations: what is taken away is taken from the one that serves, too.
    grants: Arc<ArcSwap<Grants>>,
    generation: u64,
    served: Option<Arc<Served>>,
    versions: Versions,
    /// What the version that serves did to what was stored, if anything.
    migration: Option<Migration>,
    refusal: Option<String>,
    /// Why the file is not judged yet.
    waiting: Option<String>,
    health: Arc<Health>,
}

/// What has not been tried yet: a file's content, or a version that serves instead of it.
pub(super) struct Candidate {
    code: Code,
    /// What the file holds.
    file: ContentHash,
    /// How the file looked; none if that is not known.
    stamp: Option<Stamp>,
}

/// A version that was tried out and is good.
pub(super) struct Good {
    pub served: Served,
    /// What it says of itself.
    pub about: Arc<Inspection>,
    /// What is different from the version that serves.
    pub changes: Vec<Change>,
}

impl Candidate {
    /// What it is known by.
    pub(super) fn hash(&self) -> ContentHash {
        self.code.hash()
    }

    /// What the file holds, if that is something else.
    fn instead_of(&self) -> Option<ContentHash> {
        (self.file != self.code.hash()).then_some(self.file)
    }
}

/// What to do about a plugin's file.
pub(super) enum Todo {
    /// Nothing: all is said.
    Nothing,
    /// To try its content out.
    Try(Candidate),
    /// To say why it does not serve.
    Refuse(Refusal),
}

impl Slot {
    /// Nothing loaded yet, after so many generations.
    pub(super) fn new(spec: config::Plugin, generation: u64) -> Self {
        use_from_now_on(&spec);
        Self {
            grants: Arc::new(ArcSwap::from_pointee(spec.grants.clone())),
            spec,
            file: Followed::default(),
            pull: None,
            imports: Vec::new(),
            tried: None,
            generation,
            served: None,
            versions: Versions::default(),
            migration: None,
            refusal: None,
            waiting: None,
            health: Arc::default(),
        }
    }

    /// The same plugin as it is configured now.
    pub(super) fn with_spec(mut self, spec: config::Plugin) -> Self {
        if self.spec != spec {
            // Other grants, budgets or settings: to be loaded again, whatever the file holds.
            self.retry();
            self.grants.store(Arc::new(spec.grants.clone()));
            self.pull = None;
            use_from_now_on(&spec);
            self.spec = spec;
        }
        self
    }

    /// The name in `mixlab.toml`.
    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    /// Which load serves, or was the last that did.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// What `mixlab.toml` grants it.
    pub(super) fn grants(&self) -> &Grants {
        &self.spec.grants
    }

    /// What it does to events of other plugins.
    pub(super) fn filter(&self) -> config::Filter {
        self.spec.filter
    }

    /// The filter that no event goes on without, if no version serves.
    pub(super) fn absent_filter(&self) -> Option<AbsentFilter> {
        match &self.served {
            Some(_) => None,
            None => AbsentFilter::new(&self.spec),
        }
    }

    /// The namespaces that nobody enters whom it was not asked about, as `mixlab.toml` has them.
    pub(super) fn guards(&self) -> &[String] {
        &self.spec.guards
    }

    /// What it guards, if anything, whether a version serves or not.
    pub(super) fn guard(&self) -> Option<Guard> {
        Guard::new(&self.spec)
    }

    /// The component's file.
    pub(super) fn path(&self) -> &Path {
        &self.spec.path
    }

    /// Other files that belong to it, whether they are there or not.
    pub(super) fn imports(&self) -> &[PathBuf] {
        &self.imports
    }

    /// The version that serves, if one does.
    pub(super) fn served(&self) -> Option<&Arc<Served>> {
        self.served.as_ref()
    }

    /// What is known of the component's file.
    pub(super) fn file(&self) -> &Followed {
        &self.file
    }

    /// Looks at the file, on a thread where that may take long.
    pub(super) async fn look(&self) -> Look {
        let (path, limit) = (self.spec.path.clone(), self.spec.budget.file);
        let (seen, imports) = (self.file.seen().cloned(), self.imports.clone());
        let is_pulled = self.spec.pulled_from.is_some();
        let looking = tokio::task::spawn_blocking(move || {
            match is_pulled.then(|| oci::doubt(&path)).flatten() {
                Some(reason) => Look::Unreadable(reason),
                None => look(&path, limit, seen.as_ref(), &imports),
            }
        });
        let looked = looking.await;
        looked.unwrap_or_else(|error| Look::Unreadable(error.to_string()))
    }

    /// What to do about what the file was found to be. An empty one is left alone for `wait`; `builds`
    /// are those of this process, if it builds plugins.
    pub(super) fn consider(
        &mut self,
        found: Look,
        wait: Duration,
        builds: Option<&Builds>,
    ) -> Todo {
        let waiting = self.waiting.take();
        if let Look::Content(stamp, _) | Look::Empty(stamp) | Look::Unfit(stamp, _) = &found {
            self.imports = stamp.imports().cloned().collect();
        }
        let refusal = match found {
            Look::Same => {
                self.waiting = waiting;
                return Todo::Nothing;
            }
            Look::Content(stamp, code) => return self.consider_content(stamp, code),
            Look::Empty(stamp) => {
                // One that was refused for it was waited for, or somebody did not want that.
                let is_refused = self.refusal.as_deref() == Some(EMPTY);
                if !is_refused && !self.file.postpone(Some(stamp.clone()), wait) {
                    let wait = duration::display(wait);
                    let reason = format!("{EMPTY}, and is refused if it stays so for {wait}");
                    return self.wait(waiting, reason);
                }
                Refusal::File(stamp, EMPTY.to_owned())
            }
            Look::Unfit(stamp, reason) => Refusal::File(stamp, reason),
            Look::Missing(reason) => match self.is_made(builds) {
                None => Refusal::Unreadable(reason),
                Some(Err(failure)) => Refusal::Unreadable(format!("{reason}; {failure}")),
                Some(Ok(how)) => {
                    // Whether that has failed meanwhile does not show in the file.
                    self.file.postpone(None, Duration::ZERO);
                    return self.wait(waiting, how.to_owned());
                }
            },
            Look::Unreadable(reason) => Refusal::Unreadable(reason),
        };
        Todo::Refuse(refusal)
    }

    /// What is being done about the file that is not there, or why that has failed.
    fn is_made(&mut self, builds: Option<&Builds>) -> Option<Result<&'static str, String>> {
        if self.pull.as_ref().is_none_or(Pull::is_over) {
            self.pull = Pull::start(&self.spec);
        }
        if let Some(pull) = &self.pull {
            return Some(pull.failure().map_or(Ok("it is being pulled"), Err));
        }
        let failure = builds
            .filter(|_| self.spec.source.is_some())?
            .failure(&self.spec.name);
        Some(failure.map_or(Ok("it is being built"), |failure| Err(failure.reason)))
    }

    /// Whatever was tried before, if the same content was not.
    fn consider_content(&mut self, stamp: Stamp, code: Code) -> Todo {
        if !self.file.is_due(Some(&stamp)) {
            return Todo::Nothing;
        }
        match &self.tried {
            Some((tried, verdict)) if *tried == code.hash() => {
                // Touched, or put back after it was gone.
                self.refusal = match verdict {
                    Verdict::Refused(reason) | Verdict::Blocked(reason) => Some(reason.clone()),
                    Verdict::Serves => None,
                };
                self.file.dealt_with(Some(stamp));
                Todo::Nothing
            }
            _ => {
                let file = code.hash();
                // Under other grants or budgets, what was rolled back to is loaded again.
                let code = self.versions.instead_of(file).cloned().unwrap_or(code);
                let stamp = Some(stamp);
                Todo::Try(Candidate { code, file, stamp })
            }
        }
    }

    /// The former version, to serve instead of what the file holds; none if none is kept.
    pub(super) fn former(&self) -> Option<Candidate> {
        let (serving, former) = (self.versions.serving()?, self.versions.former()?);
        let tried = self.tried.as_ref().map(|(tried, _)| *tried);
        Some(Candidate {
            code: former.code.clone(),
            file: tried.unwrap_or_else(|| serving.code.hash()),
            stamp: self.file.seen().cloned(),
        })
    }

    /// The version that can be rolled back to, for operators.
    pub(super) fn rollback_to(&self) -> Option<Former> {
        self.versions.rollback_to()
    }

    /// What the version that serves says of itself.
    pub(super) fn about(&self) -> Option<Arc<Inspection>> {
        Some(self.versions.serving()?.about.clone())
    }

    /// Says once why the file is not judged yet. Nothing is wrong with it so far.
    fn wait(&mut self, former: Option<String>, reason: String) -> Todo {
        if former.as_ref() != Some(&reason) {
            tracing::info!(
                plugin = self.name(),
                "the plugin's file is waited for: {reason}"
            );
        }
        self.refusal = None;
        self.waiting = Some(reason);
        Todo::Nothing
    }

    /// What to load of a candidate.
    pub(super) fn source(&self, candidate: &Candidate, breaker: &config::Breaker) -> Source {
        Source {
            name: self.spec.name.as_str().into(),
            code: candidate.code.clone(),
            grants: self.grants.clone(),
            http: self.spec.http.clone(),
            config: self.spec.config.clone(),
            budget: self.spec.budget.clone(),
            breaker: breaker.clone(),
            on_failure: self.spec.on_failure,
            guards: self.spec.guards.clone(),
            filter: self.spec.filter,
            webhook: self.spec.webhook.clone(),
            shared_limits: self.spec.shared_limits,
        }
    }

    /// How its calls have been going.
    pub(super) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Puts a new version in place; returns the former.
    pub(super) fn serve(
        &mut self,
        candidate: Candidate,
        good: Good,
        migration: Option<Migration>,
        took: Duration,
        by: Option<Arc<str>>,
    ) -> Option<Arc<Served>> {
        let Good {
            served,
            about,
            changes,
        } = good;
        self.migration = migration;
        self.generation = served.plugin.generation();
        self.refusal = None;
        let version = Version {
            code: candidate.code.clone(),
            version: served.version.clone(),
            generation: self.generation,
            about,
        };
        let file = candidate.instead_of();
        self.versions.serve(version, file, changes, took, by);
        self.conclude(candidate, Verdict::Serves);
        self.served.replace(Arc::new(served))
    }

    /// The former version cannot be had back. Nothing is wrong with the file, nor with what serves.
    pub(super) fn rollback_refused(&mut self, reason: &str, by: Arc<str>) {
        self.versions.refuse(reason, Some(by));
    }

    /// Whether this has been said already: each try says the same of a file that did not change.
    pub(super) fn knows(&self, refusal: &Refusal) -> bool {
        let is_of_content = matches!(refusal, Refusal::Content(..) | Refusal::Conflict(..));
        !is_of_content && self.refusal.as_deref() == Some(refusal.reason())
    }

    /// Remembers why the newest file does not serve.
    pub(super) fn refuse(&mut self, refusal: Refusal, by: Option<Arc<str>>) {
        if self.knows(&refusal) {
            self.remember(refusal);
            return;
        }
        let reason = self.remember(refusal);
        self.health.failed("load", reason.as_str(), None);
        self.health.journal().failed("load", reason.as_str(), None);
        self.versions.refuse(&reason, by);
        self.refusal = Some(reason);
    }

    /// What the file held need not be tried again, unless it is for a passing reason that it does not
    /// serve. Returns the reason.
    fn remember(&mut self, refusal: Refusal) -> String {
        match refusal {
            Refusal::Content(candidate, reason) => {
                self.conclude(candidate, Verdict::Refused(reason.clone()));
                reason
            }
            Refusal::Conflict(candidate, reason) => {
                self.conclude(candidate, Verdict::Blocked(reason.clone()));
                reason
            }
            Refusal::File(stamp, reason) => {
                self.file.dealt_with(Some(stamp));
                reason
            }
            Refusal::Unreadable(reason) => {
                self.file.forget();
                reason
            }
            Refusal::Passing(candidate, reason, wait) => {
                self.file.postpone(candidate.stamp, wait);
                reason
            }
        }
    }

    fn conclude(&mut self, candidate: Candidate, verdict: Verdict) {
        if candidate.instead_of().is_none() {
            self.versions.follow_file();
        }
        self.tried = Some((candidate.file, verdict));
        self.file.dealt_with(candidate.stamp);
    }

    /// Others have changed: what another plugin stood in the way of is worth another try.
    pub(super) fn unblock(&mut self) {
        if let Some((_, Verdict::Blocked(_))) = self.tried {
            self.retry();
        }
    }

    /// Somebody asked: whatever the file looks like and held is looked at again. What serves goes on.
    pub(super) fn reconsider(&mut self) {
        self.file.forget();
        self.waiting = None;
        if let Some((_, Verdict::Refused(_))) = self.tried {
            self.tried = None;
        }
    }

    /// Somebody asked for this plugin: what its file holds is loaded anew, also if it was rolled back.
    pub(super) fn start_over(&mut self) {
        self.waiting = None;
        self.versions.follow_file();
        self.retry();
    }

    /// Why the newest file does not serve, if it does not.
    pub(super) fn problem(&self) -> Option<&str> {
        self.refusal.as_deref().or(self.waiting.as_deref())
    }

    fn retry(&mut self) {
        self.tried = None;
        self.file.forget();
    }

    /// For `plugin list` and health.
    pub(super) fn status(&self) -> PluginStatus {
        let served = self.served.as_deref();
        PluginStatus {
            name: self.spec.name.clone(),
            state: match (served, &self.refusal) {
                (Some(_), None) if self.versions.is_rolled_back() => PluginState::RolledBack,
                (Some(_), None) => PluginState::Serving,
                (Some(_), Some(_)) => PluginState::ServingOld,
                (None, None) => PluginState::Waiting,
                (None, Some(_)) => PluginState::Refused,
            },
            version: served.map(|served| served.version.clone()),
            data_version: served.map(|served| served.plugin.data_version()),
            migration: self.migration.clone(),
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
            filters: served
                .map(|served| served.filtered_events().map(str::to_owned).collect())
                .unwrap_or_default(),
            webhooks: served.is_some_and(|served| served.plugin.takes_webhooks()),
            refusal: self.refusal.clone(),
            waiting: self.waiting.clone(),
            health: Some(self.health.clone()),
            plugin: served.map(|served| Arc::downgrade(&served.plugin)),
            path: self.spec.path.clone(),
            keeps_out: served.is_none() && !self.spec.guards.is_empty(),
            rollback_to: self.rollback_to(),
            detail: Some(Arc::new(Detail {
                grants: self.spec.grants.clone(),
                guards: self.spec.guards.clone(),
                budget: self.spec.budget.clone(),
                code_bytes: self.versions.serving().map(|it| it.code.bytes()),
                about: self.about(),
                loads: self.versions.loads(),
            })),
        }
    }
}

/// Why a file does not serve.
pub(super) enum Refusal {
    /// It is not there, or cannot be read.
    Unreadable(String),
    /// It is nothing that could be loaded, as long as it looks like this.
    File(Stamp, String),
    /// What is in it is no good.
    Content(Candidate, String),
    /// Another plugin handles one of its events.
    Conflict(Candidate, String),
    /// It could not be loaded for a passing reason; to be tried again after so long.
    Passing(Candidate, String, Duration),
}

impl Refusal {
    /// In words.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Unreadable(reason)
            | Self::File(_, reason)
            | Self::Content(_, reason)
            | Self::Conflict(_, reason)
            | Self::Passing(_, reason, _) => reason,
        }
    }
}
