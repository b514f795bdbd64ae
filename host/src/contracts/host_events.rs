//! The contracts of the host's own events, in the words that plugins have for theirs.

use serde_json::{Value, json};

use super::{By, Emitted, Handled, Namespace};
use crate::{
    broadcast::{NOTIFICATION, PAYMENT_UPDATE},
    dispatch::host_events::{AUTHENTICATE, AUTHENTICATED, SUBSCRIBE, UNSUBSCRIBE},
    error::ERROR_EVENT,
    presence,
};

/// Adds them to those of a namespace. Some are of the main one alone.
pub(super) fn add(namespace: &mut Namespace, is_main: bool, checks_tokens: bool) {
    if checks_tokens {
        handle(
            namespace,
            AUTHENTICATE,
            "Makes the connection the user's whose token is given.",
            json!({ "type": "array", "prefixItems": [{ "type": "string" }], "minItems": 1, "maxItems": 1 }),
            one(authenticated(true)),
        );
        emit(
            namespace,
            AUTHENTICATED,
            "What came of a token.",
            one(json!({ "oneOf": [authenticated(true), authenticated(false)] })),
        );
    }
    emit(
        namespace,
        ERROR_EVENT,
        "Why an event was not handled that nobody asked an ack of, or what is about to happen to the connection.",
        one(failure()),
    );
    emit(
        namespace,
        presence::EVENT,
        "Who came into a room, or left it, where plugins tell who is present.",
        one(told_of_presence()),
    );
    if !is_main {
        return;
    }
    let succeeded = object(json!({ "success": { "const": true } }));
    for (event, note) in [
        (SUBSCRIBE, "Gets payment updates from then on."),
        (UNSUBSCRIBE, "Gets no more payment updates."),
    ] {
        let nothing = json!({ "type": "array", "maxItems": 0 });
        handle(namespace, event, note, nothing, one(succeeded.clone()));
    }
    emit(
        namespace,
        PAYMENT_UPDATE,
        "To those who subscribed to payments.",
        one(object(json!({
            "type": { "const": "payment_update" },
            "data": {},
            "timestamp": { "type": "string", "format": "date-time" },
        }))),
    );
    emit(
        namespace,
        NOTIFICATION,
        "To all connections of a user, with the fields that the backend or plugin has written.",
        one(json!({
            "type": "object",
            "properties": { "timestamp": { "type": "string", "format": "date-time" } },
            "required": ["timestamp"],
            "additionalProperties": true,
        })),
    );
}

fn handle(namespace: &mut Namespace, event: &str, note: &str, arguments: Value, reply: Value) {
    let handled = Handled {
        by: By::Host,
        notes: vec![note.to_owned()],
        arguments: Some(arguments),
        reply: Some(reply),
    };
    namespace.handled.insert(event.to_owned(), handled);
}

fn emit(namespace: &mut Namespace, event: &str, note: &str, arguments: Value) {
    let emitted = Emitted {
        by: By::Host,
        notes: vec![note.to_owned()],
        arguments: Some(arguments),
    };
    let all = namespace.emitted.entry(event.to_owned()).or_default();
    all.insert(0, emitted);
}

/// A list of one element.
fn one(element: Value) -> Value {
    json!({ "type": "array", "prefixItems": [element], "minItems": 1, "maxItems": 1 })
}

/// An object that has all of these fields.
fn object(properties: Value) -> Value {
    let fields = properties.as_object();
    let names: Vec<_> = fields
        .into_iter()
        .flat_map(|fields| fields.keys())
        .collect();
    json!({ "type": "object", "required": names, "properties": properties })
}

fn authenticated(success: bool) -> Value {
    let user = object(json!({
        "id": { "type": ["string", "integer"] },
        "username": { "type": ["string", "null"] },
        "role": { "type": ["string", "null"] },
        "roles": { "type": "array", "items": { "type": "string" } },
    }));
    let constant = json!({ "const": success });
    object(match success {
        true => json!({ "success": constant, "user": user }),
        false => json!({ "success": constant, "error": error() }),
    })
}

/// What stands in an ack instead of a reply.
pub(super) fn failure() -> Value {
    object(json!({ "error": error() }))
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message", "temporary"],
        "properties": {
            "code": { "type": "string", "description": "A stable word for programs." },
            "message": { "type": "string", "description": "One sentence for people." },
            "temporary": { "type": "boolean", "description": "Whether the same may succeed later." },
            "retry_after_ms": { "type": "integer", "minimum": 0 },
            "details": {},
            "trace_id": { "type": "string", "description": "Finds the line of the server's log." },
        },
    })
}

fn told_of_presence() -> Value {
    let member = json!({
        "type": "object",
        "required": ["id", "connections", "data"],
        "properties": {
            "id": { "type": "string" },
            "anonymous": { "const": true },
            "connections": { "type": "integer", "minimum": 0 },
            "data": {},
        },
    });
    let members = json!({ "type": "array", "items": member });
    object(json!({
        "room": { "type": "string" },
        "joined": members,
        "left": members,
        "updated": members,
    }))
}
