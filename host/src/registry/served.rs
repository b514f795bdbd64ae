//! A plugin with what it declared, and why a declaration is refused.

use std::{collections::HashSet, panic::resume_unwind, sync::Arc, time::Instant};

use super::{DeclaredBy, Emits, Filter, Hooked, Route};
use crate::{
    admission::{Contract, ContractError, RateLimits, Schema, SchemaBudget},
    declared::Declared,
    grant::Pattern,
    guest::{self, Description, EmitContract},
    metrics::Metrics,
    namespace::{NamespaceSet, is_namespace},
    plugin::Plugin,
    shorten::shortened,
    timers::{Schedule, ScheduleError},
};

/// More events of one plugin are refused, and more that it emits, and more namespaces.
pub(super) const MAX_DECLARED: usize = 1024;

/// How much of a name that is refused is shown.
pub(super) const MAX_SHOWN_CHARS: usize = 100;

/// A plugin with what it declared, checked.
pub struct Served {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// Its version, as it says.
    pub version: String,
    /// The namespaces it declares.
    namespaces: Vec<String>,
    /// The events it handles.
    pub routes: Vec<Arc<Route>>,
    /// The timers that it declares.
    pub(super) schedules: Arc<[Schedule]>,
    /// The events of others that it filters, if any.
    pub(super) filter: Option<Arc<Filter>>,
    /// The webhooks that it takes, if any.
    pub(super) hooked: Option<Arc<Hooked>>,
    /// Its words for its events.
    declared: Arc<Declared>,
}

/// Why a plugin's description is refused.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// A contract is wrong.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// Its version is none.
    #[error("its version {0:?} is not a semantic version, like 1.2.3")]
    Version(String),
    /// A timer that it declares is wrong.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// It declares a timer twice.
    #[error("it declares the schedule {0:?} twice")]
    ScheduleTwice(String),
    /// It declares timers, and nothing that they call.
    #[error("it declares schedules and does not export timer-handler")]
    NoTimerHandler,
    /// It declares timers, and may not.
    #[error(
        "it declares schedules, which need a grant: add \"timers\" to its grants in mixlab.toml"
    )]
    TimersNotGranted,
    /// It handles nothing.
    #[error(
        "it handles and filters no event, watches no connections, takes no webhooks and has no timers"
    )]
    Nothing,
    /// It declares more than there may be.
    #[error("it declares {count} {what}; {MAX_DECLARED} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// It declares an event twice.
    #[error("it declares event {0:?} twice")]
    Twice(String),
    /// The schema of an event that it emits is wrong.
    #[error("its schema of the event {event:?} that it emits is not valid: {reason}")]
    Emit {
        /// The event.
        event: String,
        /// What is wrong.
        reason: String,
    },
    /// It would serve the pages of `[admin]`.
    #[error(
        "it serves {0:?}, which is the namespace of [admin]: set another one there, or in the plugin"
    )]
    OfAdmin(String),
    /// A namespace's name is wrong.
    #[error(
        "{0:?} is not a namespace: one begins with /, has one * at most, and neither , nor ? nor #"
    )]
    Namespace(String),
    /// It serves a namespace that it is not granted.
    #[error(
        "it serves the namespace {0}, which needs a grant: add \"namespace:{0}\" to its grants in \
         mixlab.toml"
    )]
    NotGranted(String),
    /// It says that it filters events, and cannot.
    #[error("it says which events it filters, and does not export mixlab:plugin/filters")]
    NoFilters,
    /// The pattern of events that it filters is none.
    #[error(
        "it filters {0:?}, which is no event: a name has 1 to 128 bytes, in which * stands for any"
    )]
    Filter(String),
    /// It is to be asked who comes into a namespace, and is not.
    #[error(
        "mixlab.toml says that it guards the namespace {0}, and it {1}: nobody would be asked who comes in there"
    )]
    Unguarded(String, &'static str),
    /// It filters events that it is not granted.
    #[error(
        "it filters the event {0}, which needs a grant: add \"filter:{0}\" to its grants in mixlab.toml"
    )]
    FilterNotGranted(String),
    /// The host stopped meanwhile.
    #[error("the host is shutting down")]
    Stopped,
}

/// Two plugins for one event.
#[derive(Debug, thiserror::Error)]
#[error("event {event:?} of namespace {namespace} is already handled by plugin {plugin:?}")]
pub struct Conflict {
    event: String,
    namespace: String,
    plugin: String,
}

impl Served {
    /// Checks what a plugin says of itself. Its schemas are compiled away from the server's threads.
    pub async fn new(
        plugin: Arc<Plugin>,
        description: Description,
        limits: Arc<RateLimits>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, DescriptionError> {
        let compiling = plugin.aside({
            let plugin = plugin.clone();
            move || Self::compile(plugin, description, &limits, &metrics)
        });
        match compiling.await {
            Ok(compiled) => compiled,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => Err(DescriptionError::Stopped),
        }
    }

    fn compile(
        plugin: Arc<Plugin>,
        description: Description,
        limits: &RateLimits,
        metrics: &Metrics,
    ) -> Result<Self, DescriptionError> {
        let mut budget = SchemaBudget::new(Instant::now() + plugin.compile_time());
        let declared = Arc::new(Declared::of(&description));
        let Description {
            version,
            mut namespaces,
            events,
            emits,
            schedules,
            filters,
            ..
        } = description;
        if semver::Version::parse(&version).is_err() {
            return Err(DescriptionError::Version(version));
        }
        for (what, count) in [
            ("events", events.len()),
            ("events that it emits", emits.len()),
            ("schedules", schedules.len()),
            ("namespaces", namespaces.len()),
        ] {
            if count > MAX_DECLARED {
                return Err(DescriptionError::TooMany { what, count });
            }
        }
        let emits = Arc::new(compile_emits(emits, &mut budget)?);
        let schedules = checked_schedules(schedules, &plugin)?;
        if events.is_empty()
            && filters.is_empty()
            && !plugin.wants_connections()
            && !plugin.handles_timers()
            && !plugin.takes_webhooks()
        {
            return Err(DescriptionError::Nothing);
        }
        if namespaces.is_empty() {
            namespaces.push("/".to_owned());
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        if let Some(bad) = namespaces.iter().find(|name| !is_namespace(name)) {
            let shown = shortened(bad, MAX_SHOWN_CHARS);
            return Err(DescriptionError::Namespace(shown));
        }
        if let Some(taken) = namespaces.iter().find(|name| plugin.is_hosts(name)) {
            return Err(DescriptionError::OfAdmin(taken.clone()));
        }
        if let Some(ungranted) = namespaces.iter().find(|name| !plugin.may_serve(name)) {
            let shown = shortened(ungranted, MAX_SHOWN_CHARS);
            return Err(DescriptionError::NotGranted(shown));
        }
        let own = NamespaceSet::new(&namespaces);
        if let Some(unguarded) = plugin.guards().iter().find(|path| !own.has(path)) {
            return Err(DescriptionError::Unguarded(
                unguarded.clone(),
                "does not serve that",
            ));
        }
        if let Some(unguarded) = plugin.guards().first()
            && !plugin.wants_connections()
        {
            return Err(DescriptionError::Unguarded(
                unguarded.clone(),
                "does not export mixlab:plugin/connections",
            ));
        }
        let hooked = plugin.takes_webhooks().then(|| {
            let limit = limits.of_webhooks(plugin.name(), plugin.webhook().limit);
            Arc::new(Hooked {
                plugin: plugin.clone(),
                limit,
                emits: emits.clone(),
            })
        });
        let filter = Filter::new(&plugin, &emits, &filters, &namespaces)?.map(Arc::new);
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(events.len());
        let mut names = HashSet::new();
        for event in events {
            let contract = Contract::compile(plugin.name(), event, limits, &mut budget)?;
            if !names.insert(contract.event.clone()) {
                return Err(DescriptionError::Twice(contract.event));
            }
            let answered = metrics.event_ok(plugin.name(), &contract.event);
            routes.push(Arc::new(Route {
                plugin: plugin.clone(),
                contract: Arc::new(contract),
                emits: emits.clone(),
                answered,
                filters: Vec::new(),
            }));
        }
        Ok(Self {
            plugin,
            version,
            namespaces,
            routes,
            schedules,
            filter,
            hooked,
            declared,
        })
    }

    /// The namespaces it serves: those it declares, without those that have been taken from its
    /// grants since.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let namespaces = self.namespaces.iter().map(String::as_str);
        namespaces.filter(|path| self.plugin.may_serve(path))
    }

    /// The names of the events it handles.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.routes
            .iter()
            .map(|route| route.contract.event.as_str())
    }

    /// The events of others that it filters, as patterns.
    pub fn filtered_events(&self) -> impl Iterator<Item = &str> {
        let filter = self.filter.iter();
        filter.flat_map(|filter| filter.events().map(Pattern::as_str))
    }

    pub(super) fn declared_by(&self) -> DeclaredBy {
        DeclaredBy {
            plugin: self.plugin.name().clone(),
            version: self.version.clone(),
            namespaces: self.namespaces().map(str::to_owned).collect(),
            declared: self.declared.clone(),
        }
    }

    /// Whether clients find something in its namespaces.
    pub(super) fn serves(&self) -> bool {
        !self.routes.is_empty() || self.plugin.wants_connections()
    }

    /// The first event that one of `others` handles already.
    pub fn conflict<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Arc<Self>>,
    ) -> Option<Conflict> {
        let own: HashSet<&str> = self.namespaces().collect();
        for other in others {
            let Some(namespace) = other.namespaces().find(|path| own.contains(path)) else {
                continue;
            };
            let taken: HashSet<&str> = other.events().collect();
            if let Some(event) = self.events().find(|event| taken.contains(event)) {
                return Some(Conflict {
                    event: event.to_owned(),
                    namespace: namespace.to_owned(),
                    plugin: other.plugin.name().to_string(),
                });
            }
        }
        None
    }
}

fn checked_schedules(
    declared: Vec<guest::Schedule>,
    plugin: &Plugin,
) -> Result<Arc<[Schedule]>, DescriptionError> {
    if declared.is_empty() {
        return Ok([].into());
    }
    if !plugin.handles_timers() {
        return Err(DescriptionError::NoTimerHandler);
    }
    if !plugin.grants().timers() {
        return Err(DescriptionError::TimersNotGranted);
    }
    let mut names = HashSet::new();
    let mut schedules = Vec::with_capacity(declared.len());
    for schedule in declared {
        let schedule = Schedule::new(schedule)?;
        if !names.insert(schedule.name.clone()) {
            return Err(DescriptionError::ScheduleTwice(schedule.name));
        }
        schedules.push(schedule);
    }
    Ok(schedules.into())
}

fn compile_emits(
    contracts: Vec<EmitContract>,
    budget: &mut SchemaBudget,
) -> Result<Emits, DescriptionError> {
    let mut emits = Emits::new();
    for EmitContract { name, arguments } in contracts {
        let Some(arguments) = arguments else { continue };
        match Schema::compile(&arguments, budget) {
            Ok(schema) => emits.insert(name, schema),
            Err(reason) => {
                let event = shortened(&name, MAX_SHOWN_CHARS);
                return Err(DescriptionError::Emit { event, reason });
            }
        };
    }
    Ok(emits)
}
