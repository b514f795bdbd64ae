//! The contracts of all plugins, and of the host's own events, for those who write clients: as TypeScript, as
//! AsyncAPI, and as a page.
//!
//! What plugins say of themselves is text of others. Each of the three has its own way to keep such text from
//! being anything else.

mod asyncapi;
mod host_events;
mod page;
mod text;
mod typescript;

use std::collections::BTreeMap;

pub(crate) use page::POLICY;

use serde_json::{Value, value::RawValue};

use crate::{
    declared::{Emit, Event},
    namespace::MAIN_NAMESPACE,
    registry::{ANY_EVENT, Registry},
};

/// The HTTP API, as OpenAPI 3.1.
pub(crate) const OPENAPI: &str = include_str!("../../openapi.json");

/// What clients may send and may get, by namespace.
#[derive(Debug)]
pub(crate) struct Contracts {
    namespaces: BTreeMap<String, Namespace>,
    plugins: Vec<Plugin>,
}

/// A plugin that serves.
#[derive(Debug)]
struct Plugin {
    name: String,
    version: String,
}

/// The events of a namespace, or of all that match a pattern.
#[derive(Debug, Default)]
struct Namespace {
    /// What clients send, by name.
    handled: BTreeMap<String, Handled>,
    /// What clients get, by name; several plugins may emit the same.
    emitted: BTreeMap<String, Vec<Emitted>>,
}

/// An event that clients send.
#[derive(Debug, Clone)]
struct Handled {
    by: By,
    /// What is to be known of it besides, in sentences.
    notes: Vec<String>,
    /// JSON Schema of the argument array.
    arguments: Option<Value>,
    /// JSON Schema of the ack's argument array.
    reply: Option<Value>,
}

/// An event that clients get.
#[derive(Debug, Clone)]
struct Emitted {
    by: By,
    notes: Vec<String>,
    /// JSON Schema of the argument array.
    arguments: Option<Value>,
}

/// Whose event it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Host,
    Plugin(String),
}

impl Contracts {
    /// Those of the plugins that serve. `authenticate` is an event of the host's only where tokens are checked.
    pub(crate) fn of(registry: &Registry, checks_tokens: bool) -> Self {
        let mut contracts = Self {
            namespaces: BTreeMap::new(),
            plugins: Vec::new(),
        };
        contracts
            .namespaces
            .insert(MAIN_NAMESPACE.to_owned(), Namespace::default());
        for plugin in registry.declared() {
            let by = By::Plugin(plugin.plugin.to_string());
            contracts.plugins.push(Plugin {
                name: plugin.plugin.to_string(),
                version: plugin.version.clone(),
            });
            for path in &plugin.namespaces {
                let namespace = contracts.namespaces.entry(path.clone()).or_default();
                namespace.add(&by, &plugin.declared.events, &plugin.declared.emits);
            }
        }
        for (path, namespace) in &mut contracts.namespaces {
            host_events::add(namespace, path == MAIN_NAMESPACE, checks_tokens);
        }
        contracts
    }

    /// A `.d.ts` file.
    pub(crate) fn to_typescript(&self) -> String {
        typescript::document(self)
    }

    /// An AsyncAPI document, as JSON.
    pub(crate) fn to_asyncapi(&self) -> String {
        let document = asyncapi::document(self);
        serde_json::to_string_pretty(&document).expect("JSON is written as JSON")
    }

    /// A page of HTML.
    pub(crate) fn to_page(&self) -> String {
        page::page(self)
    }
}

impl Namespace {
    fn add(&mut self, by: &By, events: &[Event], emits: &[Emit]) {
        for event in events {
            let handled = Handled {
                by: by.clone(),
                notes: notes(event),
                arguments: value(&event.arguments),
                reply: value(&event.reply),
            };
            self.handled.insert(event.name.clone(), handled);
        }
        for emit in emits {
            let emitted = Emitted {
                by: by.clone(),
                notes: Vec::new(),
                arguments: value(&emit.arguments),
            };
            self.emitted
                .entry(emit.name.clone())
                .or_default()
                .push(emitted);
        }
    }
}

impl By {
    /// In a sentence's words.
    fn words(&self) -> String {
        match self {
            Self::Host => "of MixLab itself".to_owned(),
            Self::Plugin(name) => format!("of the plugin {name}"),
        }
    }
}

/// What a contract says beside its schemas.
fn notes(event: &Event) -> Vec<String> {
    let mut notes = vec![format!("Who may send it: {}.", event.access)];
    if event.name == ANY_EVENT {
        notes.push("Every event that has no contract of its own.".to_owned());
    }
    if !event.limits.is_empty() {
        notes.push(format!("How often: {}.", event.limits.join(", ")));
    }
    if let Some(bytes) = event.max_bytes {
        notes.push(format!("How large: {bytes} bytes."));
    }
    notes
}

/// A schema that has been compiled is JSON.
fn value(schema: &Option<Box<RawValue>>) -> Option<Value> {
    serde_json::from_str(schema.as_ref()?.get()).ok()
}

#[cfg(test)]
mod tests;
