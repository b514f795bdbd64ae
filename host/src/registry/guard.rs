//! Whom nobody passes who wants to come in.

use crate::{config, namespace::NamespaceSet, plugin::Plugin};

/// A plugin that `mixlab.toml` has decide who comes into some namespaces, whether a version of it serves or
/// not.
pub struct Guard {
    plugin: Box<str>,
    namespaces: NamespaceSet,
}

impl Guard {
    /// As `mixlab.toml` describes the plugin, if it guards anything.
    pub fn new(plugin: &config::Plugin) -> Option<Self> {
        (!plugin.guards.is_empty()).then(|| Self {
            plugin: plugin.name.as_str().into(),
            namespaces: NamespaceSet::new(&plugin.guards),
        })
    }

    /// Whether nobody comes into a namespace whom it was not asked about.
    pub(super) fn guards(&self, namespace: &str) -> bool {
        self.namespaces.has(namespace)
    }

    /// Whether it is this plugin.
    pub(super) fn is(&self, plugin: &Plugin) -> bool {
        *self.plugin == **plugin.name()
    }
}
