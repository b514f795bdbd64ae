//! Who sees an event before its handler.

use std::sync::Arc;

use super::{
    DescriptionError, Emits,
    served::{MAX_DECLARED, MAX_SHOWN_CHARS},
};
use crate::{
    config::{self, FilterFailure},
    grant::Pattern,
    namespace::NamespaceSet,
    plugin::Plugin,
    shorten::shortened,
};

/// Longer patterns are refused at load.
const MAX_PATTERN_BYTES: usize = 128;

/// A plugin that filters events of others.
pub struct Filter {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// What the plugin must keep to when it emits.
    pub emits: Arc<Emits>,
    events: Vec<Pattern>,
    namespaces: NamespaceSet,
}

/// A plugin that has to filter events, and of which no version serves. What it would see is known by its
/// grants alone, and in which namespaces is not known.
pub struct AbsentFilter {
    events: Vec<Pattern>,
    plugin: Box<str>,
}

impl AbsentFilter {
    /// As `mixlab.toml` describes the plugin, if it may filter anything and no event goes on without it.
    pub fn new(plugin: &config::Plugin) -> Option<Self> {
        let events: Vec<_> = plugin.grants.filtered().cloned().collect();
        let is_needed = plugin.filter.on_failure == FilterFailure::Reject && !events.is_empty();
        is_needed.then(|| Self {
            events,
            plugin: plugin.name.as_str().into(),
        })
    }

    /// Whether it may be that it would see this event of another plugin.
    pub(super) fn may_see(&self, handler: &str, event: &str) -> bool {
        *self.plugin != *handler && self.events.iter().any(|pattern| pattern.matches(event))
    }
}

impl Filter {
    /// As a plugin declares it, if it filters anything.
    pub(super) fn new(
        plugin: &Arc<Plugin>,
        emits: &Arc<Emits>,
        events: &[String],
        namespaces: &[String],
    ) -> Result<Option<Self>, DescriptionError> {
        if events.is_empty() {
            return Ok(None);
        }
        if events.len() > MAX_DECLARED {
            let (what, count) = ("events that it filters", events.len());
            return Err(DescriptionError::TooMany { what, count });
        }
        if !plugin.can_filter() {
            return Err(DescriptionError::NoFilters);
        }
        let is_none = |event: &&String| event.is_empty() || event.len() > MAX_PATTERN_BYTES;
        if let Some(event) = events.iter().find(is_none) {
            let shown = shortened(event, MAX_SHOWN_CHARS);
            return Err(DescriptionError::Filter(shown));
        }
        if let Some(event) = events.iter().find(|event| !plugin.may_filter(event)) {
            let shown = shortened(event, MAX_SHOWN_CHARS);
            return Err(DescriptionError::FilterNotGranted(shown));
        }
        Ok(Some(Self {
            plugin: plugin.clone(),
            emits: emits.clone(),
            events: events.iter().map(|event| Pattern::new(event)).collect(),
            namespaces: NamespaceSet::new(namespaces),
        }))
    }

    /// The patterns of the events that it filters, without those that have been taken from its grants
    /// since.
    pub(super) fn events(&self) -> impl Iterator<Item = &Pattern> {
        let events = self.events.iter();
        events.filter(|event| self.plugin.may_filter(event.as_str()))
    }

    /// Whether it sees this event of a namespace.
    pub fn sees(&self, namespace: &str, event: &str) -> bool {
        self.is_of(namespace) && self.events().any(|pattern| pattern.matches(event))
    }

    /// Whether an event goes on when it fails.
    pub fn lets_on(&self) -> bool {
        self.plugin.on_filter_failure() == FilterFailure::Allow
    }

    /// Whether it filters in this namespace.
    pub(super) fn is_of(&self, namespace: &str) -> bool {
        self.namespaces.has(namespace)
    }
}
