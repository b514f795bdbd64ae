//! Which plugin handles what: an immutable snapshot, replaced as a whole.

mod filter;
mod guard;
mod served;

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use prometheus::IntCounter;

pub(crate) use filter::{AbsentFilter, Filter};
pub(crate) use guard::Guard;
pub(crate) use served::{DescriptionError, Served};

use crate::{
    admission::{Contract, Limit, Schema},
    declared::Declared,
    namespace::NamespacePattern,
    plugin::Plugin,
    timers::Schedule,
    transport::Part,
};

/// The name that takes every event that no contract names.
pub(crate) const ANY_EVENT: &str = "*";

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
