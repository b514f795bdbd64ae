//! The contracts as AsyncAPI 3: a channel for each namespace, an operation for each event.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{Contracts, Namespace, host_events, text::Names};

/// What schemas of plugins are written in.
const SCHEMA_FORMAT: &str = "application/schema+json;version=draft-2020-12";

/// Keywords whose value is a map of schemas, by names that are the author's.
const MAPS_OF_SCHEMAS: [&str; 5] = [
    "properties",
    "patternProperties",
    "dependentSchemas",
    "$defs",
    "definitions",
];

/// Keywords whose value is no schema, whatever stands in it.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    schemas: Map<String, Value>,
    /// Which schema is called what, by its text: the same one stands there once.
    known: HashMap<String, String>,
    schema_names: Names,
    names: Names,
}

/// A namespace's channel, as it is put together.
struct Channel {
    id: String,
    messages: Map<String, Value>,
    /// Those of its messages.
    names: Names,
}

pub(super) fn document(contracts: &Contracts) -> Value {
    let mut document = Document::default();
    for (path, namespace) in &contracts.namespaces {
        document.add(path, namespace);
    }
    let plugins = contracts.plugins.iter();
    let plugins: Vec<_> = plugins
        .map(|plugin| json!({ "name": plugin.name, "version": plugin.version }))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "The events of a MixLab server",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What clients may send (the server receives it) and what they may get (it sends it), \
                            over Socket.IO. A channel is a namespace; the payload of a message is the list of \
                            an event's arguments.",
            "x-plugins": plugins,
        },
        "defaultContentType": "application/json",
        "channels": document.channels,
        "operations": document.operations,
        "components": { "schemas": document.schemas },
    })
}

impl Document {
    fn add(&mut self, path: &str, namespace: &Namespace) {
        let mut channel = Channel {
            id: self.names.make(&["namespace", path]),
            messages: Map::new(),
            names: Names::default(),
        };
        let failure = json!({
            "type": "array", "prefixItems": [host_events::failure()], "minItems": 1, "maxItems": 1,
        });
        let failed = self.message(&mut channel, &["failure"], "ack", Some(&failure));
        for (event, handled) in &namespace.handled {
            let operation = self.names.make(&["send", event]);
            let arguments = handled.arguments.as_ref();
            let message = self.message(&mut channel, &["send", event], event, arguments);
            let reply = ["send", event, "reply"];
            let reply = self.message(&mut channel, &reply, "ack", handled.reply.as_ref());
            let channel_of = reference(&["channels", &channel.id]);
            let mut written = json!({
                "action": "receive",
                "title": event,
                "summary": format!("An event {}.", handled.by.words()),
                "channel": channel_of,
                "messages": [message],
                "reply": { "channel": channel_of, "messages": [reply, &failed] },
            });
            if !handled.notes.is_empty() {
                written["description"] = handled.notes.join(" ").into();
            }
            self.operations.insert(operation, written);
        }
        for (event, emitted) in &namespace.emitted {
            let operation = self.names.make(&["get", event]);
            let several = emitted.iter().map(|emitted| {
                let arguments = emitted.arguments.as_ref();
                self.message(&mut channel, &["get", event], event, arguments)
            });
            let messages: Vec<_> = several.collect();
            let by: Vec<_> = emitted.iter().map(|emitted| emitted.by.words()).collect();
            let notes = emitted.iter().flat_map(|emitted| &emitted.notes);
            let notes: Vec<_> = notes.map(String::as_str).collect();
            let mut written = json!({
                "action": "send",
                "title": event,
                "summary": format!("An event {}.", by.join(", and ")),
                "channel": reference(&["channels", &channel.id]),
                "messages": messages,
            });
            if !notes.is_empty() {
                written["description"] = notes.join(" ").into();
            }
            self.operations.insert(operation, written);
        }
        let written = json!({
            "address": path,
            "title": format!("Namespace {path}"),
            "messages": channel.messages,
        });
        self.channels.insert(channel.id, written);
    }

    /// Adds a message, of which these words tell, to a channel; the reference to it.
    fn message(
        &mut self,
        channel: &mut Channel,
        words: &[&str],
        event: &str,
        schema: Option<&Value>,
    ) -> Value {
        let mut message = json!({ "name": event, "title": event });
        if let Some(schema) = schema {
            message["payload"] = self.schema(schema, words);
        }
        let id = channel.names.make(words);
        let refers = reference(&["channels", &channel.id, "messages", &id]);
        channel.messages.insert(id, message);
        refers
    }

    /// Adds a schema, of which these words tell; the reference to it.
    fn schema(&mut self, schema: &Value, words: &[&str]) -> Value {
        let text = schema.to_string();
        if let Some(id) = self.known.get(&text) {
            return reference(&["components", "schemas", id]);
        }
        let id = self.schema_names.make(words);
        let mut schema = schema.clone();
        if let Some(fields) = schema.as_object_mut() {
            // It is a part of this document now.
            fields.remove("$id");
            fields.remove("$schema");
        }
        move_references(&mut schema, &format!("#/components/schemas/{id}/schema"));
        let refers = reference(&["components", "schemas", &id]);
        let written = json!({ "schemaFormat": SCHEMA_FORMAT, "schema": schema });
        self.schemas.insert(id.clone(), written);
        self.known.insert(text, id);
        refers
    }
}

/// A reference by names that [`Names`] has made, which need no escapes.
fn reference(path: &[&str]) -> Value {
    json!({ "$ref": format!("#/{}", path.join("/")) })
}

/// Has the references of a schema into itself go where it stands now.
fn move_references(schema: &mut Value, to: &str) {
    let fields = match schema {
        Value::Array(several) => {
            several.iter_mut().for_each(|one| move_references(one, to));
            return;
        }
        Value::Object(fields) => fields,
        _ => return,
    };
    for (key, value) in fields {
        match value {
            Value::String(target) if key == "$ref" => {
                if let Some(inside) = target.strip_prefix('#')
                    && (inside.is_empty() || inside.starts_with('/'))
                {
                    *target = format!("{to}{inside}");
                }
            }
            Value::Object(named) if MAPS_OF_SCHEMAS.contains(&key.as_str()) => {
                named.values_mut().for_each(|one| move_references(one, to));
            }
            _ if DATA.contains(&key.as_str()) => {}
            value => move_references(value, to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_go_where_the_schema_stands_and_data_stays() {
        let mut schema = json!({
            "$ref": "#/$defs/a",
            "properties": { "$ref": { "$ref": "#" }, "const": { "$ref": "#/$defs/a" } },
            "prefixItems": [{ "$ref": "#/$defs/a" }, { "$ref": "https://example.com/x" }],
            "const": { "$ref": "#/$defs/a" },
            "$defs": { "a": { "enum": [{ "$ref": "#" }] } },
        });
        move_references(&mut schema, "#/s");
        let expected = json!({
            "$ref": "#/s/$defs/a",
            "properties": { "$ref": { "$ref": "#/s" }, "const": { "$ref": "#/s/$defs/a" } },
            "prefixItems": [{ "$ref": "#/s/$defs/a" }, { "$ref": "https://example.com/x" }],
            "const": { "$ref": "#/$defs/a" },
            "$defs": { "a": { "enum": [{ "$ref": "#" }] } },
        });
        assert_eq!(schema, expected);
    }
}
