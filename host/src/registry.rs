//! Which plugin handles what: an immutable snapshot, replaced as a whole.

mod filter;
mod guard;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    panic::resume_unwind,
    sync::Arc,
    time::Instant,
};

use arc_swap::ArcSwap;
use prometheus::IntCounter;

pub(crate) use filter::{AbsentFilter, Filter};
pub(crate) use guard::Guard;

use crate::{
    admission::{Contract, ContractError, Limit, RateLimits, Schema, SchemaBudget},
    declared::Declared,
    grant::Pattern,
    guest::{self, Description, EmitContract},
    metrics::Metrics,
    namespace::{NamespacePattern, NamespaceSet, is_namespace},
    plugin::Plugin,
    shorten::shortened,
    timers::{Schedule, ScheduleError},
    transport::Part,
};

/// The name that takes every event that no contract names.
pub(crate) const ANY_EVENT: &str = "*";

/// More events of one plugin are refused, and more that it emits, and more namespaces.
const MAX_DECLARED: usize = 1024;

/// How much of a name that is refused is shown.
const MAX_SHOWN_CHARS: usize = 100;

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
    schedules: Arc<[Schedule]>,
    /// The events of others that it filters, if any.
    filter: Option<Arc<Filter>>,
    /// The webhooks that it takes, if any.
    hooked: Option<Arc<Hooked>>,
    /// Its words for its events.
    declared: Arc<Declared>,
}

/// The schemas of the events that a plugin declares to emit.
pub(crate) type Emits = HashMap<String, Schema>;

/// A plugin that takes webhooks.
pub struct Hooked {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// How many one address may send.
    pub limit: Arc<Limit>,
    /// What the plugin must keep to when it emits.
    pub emits: Arc<Emits>,
}

/// An event and who handles it.
#[derive(Clone)]
pub struct Route {
    /// The handler.
    pub plugin: Arc<Plugin>,
    /// What is checked first.
    pub contract: Arc<Contract>,
    /// What the plugin must keep to when it emits.
    pub emits: Arc<Emits>,
    /// Counts its good answers.
    pub answered: IntCounter,
    /// The plugins that may see the event before, in their order. Mostly none.
    pub filters: Vec<Arc<Filter>>,
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

    fn declared_by(&self) -> DeclaredBy {
        DeclaredBy {
            plugin: self.plugin.name().clone(),
            version: self.version.clone(),
            namespaces: self.namespaces().map(str::to_owned).collect(),
            declared: self.declared.clone(),
        }
    }

    /// Whether clients find something in its namespaces.
    fn serves(&self) -> bool {
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

/// An event as it is handled in a namespace, or in those of a pattern: with who may filter it there.
fn filtered(route: &Arc<Route>, path: &str, filters: &[Arc<Filter>]) -> Arc<Route> {
    let event = &route.contract.event;
    let is_pattern = NamespacePattern::parse(path).is_some();
    let may_see = |filter: &&Arc<Filter>| {
        let is_of_event = || filter.events().any(|pattern| pattern.matches(event));
        filter.plugin.name() != route.plugin.name()
            && (is_pattern || filter.is_of(path))
            && (event == ANY_EVENT || is_of_event())
    };
    let filters: Vec<_> = filters.iter().filter(may_see).cloned().collect();
    if filters.is_empty() {
        return route.clone();
    }
    Arc::new(Route {
        filters,
        ..Route::clone(route)
    })
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

/// The registry in force, replaced as a whole.
pub(crate) type Current = Arc<ArcSwap<Registry>>;

/// What each namespace serves. Never changes once published.
#[derive(Default)]
pub struct Registry {
    namespaces: HashMap<Box<str>, Namespace>,
    /// In the order in which they are tried.
    patterns: Vec<(NamespacePattern, Namespace)>,
    plugins: Vec<Arc<Plugin>>,
    hooked: HashMap<Arc<str>, Arc<Hooked>>,
    /// Plugins that timers can call, by their names.
    timed: HashMap<Arc<str>, Timed>,
    /// Without these, events that they have to filter are not handled.
    absent_filters: Vec<AbsentFilter>,
    /// Nobody comes in who passes them.
    guards: Vec<Guard>,
    /// What plugins say of their events.
    declared: Vec<DeclaredBy>,
}

/// What a plugin says of its events.
pub(crate) struct DeclaredBy {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// Its version.
    pub version: String,
    /// The namespaces it serves.
    pub namespaces: Vec<String>,
    /// Its words.
    pub declared: Arc<Declared>,
}

/// A plugin that timers can call.
#[derive(Clone)]
pub struct Timed {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// The timers that it declares.
    pub schedules: Arc<[Schedule]>,
}

#[derive(Default)]
struct Namespace {
    events: HashMap<Box<str>, Arc<Route>>,
    any_event: Option<Arc<Route>>,
    /// Plugins that want to know of connections, in the order of `mixlab.toml`.
    watchers: Vec<Arc<Plugin>>,
}

impl Registry {
    /// Of plugins without conflicts, in the order of `mixlab.toml`, and of those that have to be there.
    pub fn new<'a>(
        served: impl IntoIterator<Item = &'a Arc<Served>>,
        absent_filters: Vec<AbsentFilter>,
        guards: Vec<Guard>,
    ) -> Self {
        let served: Vec<_> = served.into_iter().collect();
        let filters = served.iter().filter_map(|served| served.filter.clone());
        let filters: Vec<_> = filters.collect();
        let mut namespaces: HashMap<Box<str>, Namespace> = HashMap::new();
        let mut order = Vec::new();
        let mut plugins = Vec::new();
        let hooked = served.iter().filter_map(|served| served.hooked.clone());
        let hooked = hooked.map(|hooked| (hooked.plugin.name().clone(), hooked));
        let hooked = hooked.collect();
        let mut timed = HashMap::new();
        let declared = served.iter().map(|served| served.declared_by()).collect();
        for plugin in served {
            plugins.push(plugin.plugin.clone());
            if plugin.plugin.handles_timers() {
                let name = plugin.plugin.name().clone();
                let plugin = Timed {
                    plugin: plugin.plugin.clone(),
                    schedules: plugin.schedules.clone(),
                };
                timed.insert(name, plugin);
            }
            if !plugin.serves() {
                continue;
            }
            for path in plugin.namespaces() {
                order.push(path);
                let namespace = namespaces.entry(path.into()).or_default();
                for route in &plugin.routes {
                    let route = filtered(route, path, &filters);
                    if route.contract.event == ANY_EVENT {
                        namespace.any_event = Some(route);
                    } else {
                        let event = route.contract.event.as_str().into();
                        namespace.events.insert(event, route);
                    }
                }
                if plugin.plugin.wants_connections() {
                    namespace.watchers.push(plugin.plugin.clone());
                }
            }
        }
        let mut patterns = Vec::new();
        for path in order {
            if let Some(pattern) = NamespacePattern::parse(path)
                && let Some(namespace) = namespaces.remove(path)
            {
                patterns.push((pattern, namespace));
            }
        }
        // Stable: of those that fix as much, the first in the file is meant.
        patterns.sort_by_key(|(pattern, _)| Reverse(pattern.literals()));
        Self {
            namespaces,
            patterns,
            plugins,
            hooked,
            timed,
            absent_filters,
            guards,
            declared,
        }
    }

    /// What each plugin says of its events, in the order of `mixlab.toml`.
    pub(crate) fn declared(&self) -> &[DeclaredBy] {
        &self.declared
    }

    /// Whether a plugin that may have to see an event before its handler does is not there.
    pub fn lacks_filter(&self, route: &Route, event: &str) -> bool {
        let handler = route.plugin.name();
        let mut absent = self.absent_filters.iter();
        absent.any(|filter| filter.may_see(handler, event))
    }

    /// Whether a plugin that decides who comes into a namespace is not there to be asked.
    pub fn lacks_guard(&self, namespace: &str) -> bool {
        let mut guards = self.guards.iter().filter(|guard| guard.guards(namespace));
        let watchers = self.watchers(namespace);
        guards.any(|guard| !watchers.iter().any(|watcher| guard.is(watcher)))
    }

    /// Whether a plugin may read a part of what clients say when they connect.
    pub fn may_read(&self, part: Part<'_>) -> bool {
        self.plugins.iter().any(|plugin| {
            let grants = plugin.grants();
            let may = match part {
                Part::Query => true,
                Part::Header(name) => grants.header(name),
                Part::Claim(name) => grants.claim(name),
            };
            grants.handshake() && may
        })
    }

    /// What is meant by the name of a namespace, and not by a pattern first, then by the pattern
    /// that fixes most of it.
    fn namespace(&self, path: &str) -> Option<&Namespace> {
        self.namespaces.get(path).or_else(|| {
            let mut patterns = self.patterns.iter();
            let (_, namespace) = patterns.find(|(pattern, _)| pattern.matches(path))?;
            Some(namespace)
        })
    }

    /// The plugin of this name, if it takes webhooks.
    pub fn hooked(&self, name: &str) -> Option<&Arc<Hooked>> {
        self.hooked.get(name)
    }

    /// Who handles an event of a namespace.
    pub fn route(&self, namespace: &str, event: &str) -> Option<&Arc<Route>> {
        let namespace = self.namespace(namespace)?;
        namespace.events.get(event).or(namespace.any_event.as_ref())
    }

    /// The plugins that want to know of a namespace's connections.
    pub fn watchers(&self, namespace: &str) -> &[Arc<Plugin>] {
        self.namespace(namespace)
            .map(|n| n.watchers.as_slice())
            .unwrap_or_default()
    }

    /// The plugins that timers can call, by their names.
    pub fn timed(&self) -> &HashMap<Arc<str>, Timed> {
        &self.timed
    }

    /// Whether a plugin serves a namespace.
    pub fn serves(&self, namespace: &str) -> bool {
        self.namespace(namespace).is_some()
    }

    /// Whether a plugin serves a namespace by its name, and not by a pattern.
    pub fn names(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The namespaces that plugins serve by their names.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(|path| &**path)
    }
}
