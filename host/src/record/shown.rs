//! What calls have recorded, for people.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    effect::Effect,
    harmless::in_one_line,
    message::Message,
    selected::Selected,
    store::{self, Key, Write},
    timers::{Timer, owner},
};

/// What a call wants to happen.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// E.g. `emit` or `join`.
    pub what: &'static str,
    /// Whom or what it is about.
    pub to: String,
    /// The event, of emits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The arguments of the event, or the value that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10}  {}", self.what, in_one_line(&self.to))?;
        if let Some(event) = &self.event {
            write!(f, "  {}", in_one_line(event))?;
        }
        match &self.value {
            Some(value) => write!(f, "  {}", in_one_line(&value.to_string())),
            None => Ok(()),
        }
    }
}

/// The sender of the event that a call is for.
const SENDER: &str = "the sender";

/// The effects of a call, in order.
pub(crate) fn shown(effects: &[Effect]) -> Vec<Shown> {
    effects.iter().map(effect).collect()
}

fn effect(effect: &Effect) -> Shown {
    let plain = |what, to: String| Shown {
        what,
        to,
        event: None,
        value: None,
    };
    let emit = |to: String, event: &str, value: Value| Shown {
        what: "emit",
        to,
        event: Some(event.to_owned()),
        value: Some(value),
    };
    match effect {
        Effect::PaymentUpdate { data } => emit(
            "payment subscribers".to_owned(),
            "paymentUpdate",
            json!([parsed(data.get())]),
        ),
        Effect::Notify { user, notification } => emit(
            format!("user {}", user.as_str()),
            "notification",
            json!([notification]),
        ),
        Effect::ToRole { role, event, data } => {
            emit(format!("role {role}"), event, json!([parsed(data.get())]))
        }
        Effect::Emit { event, message, .. } => emit(SENDER.to_owned(), event, arguments(message)),
        Effect::EmitTo {
            sockets,
            event,
            message,
            ..
        } => emit(named(sockets), event, arguments(message)),
        Effect::Join { room } => plain("join", room.clone()),
        Effect::Leave { room } => plain("leave", room.clone()),
        Effect::Enter { room, data } => Shown {
            value: Some(parsed(data)),
            ..plain("enter", room.clone())
        },
        Effect::JoinSockets { sockets, room } => {
            plain("join", format!("{room} for {}", named(sockets)))
        }
        Effect::LeaveSockets { sockets, room } => {
            plain("leave", format!("{room} for {}", named(sockets)))
        }
        Effect::SetData { json, .. } => Shown {
            value: Some(parsed(json)),
            ..plain("data", SENDER.to_owned())
        },
        Effect::Disconnect { sockets, .. } => plain(
            "disconnect",
            sockets.as_ref().map_or_else(|| SENDER.to_owned(), named),
        ),
    }
}

/// Whom something is for.
fn named(selected: &Selected) -> String {
    let selection = &selected.selection;
    let rooms = selection.rooms.iter().map(|room| format!("room {room}"));
    let sockets = selection.sockets.iter().map(|id| format!("socket {id}"));
    let mut to: Vec<_> = rooms.chain(sockets).collect();
    if to.is_empty() {
        to.push("everyone".to_owned());
    }
    let mut text = to.join(", ");
    let except = selection.except.iter().map(String::as_str);
    let except: Vec<_> = except
        .chain(selection.except_socket.map(|_| SENDER))
        .collect();
    if !except.is_empty() {
        text += &format!(" but {}", except.join(", "));
    }
    if let Some(namespace) = &selected.namespace {
        text += &format!(" in {namespace}");
    }
    text
}

fn arguments(sent: &Message) -> Value {
    message(sent.arguments.as_str(), &sent.attachments)
}

/// The key of an object that stands for bytes: `{"$bytes": "…"}`, in base64.
pub(crate) const BYTES: &str = "$bytes";

/// A message as cases have it: with its bytes in their places, as `{"$bytes": "…"}` in base64. A text that is no
/// JSON is shown as it is.
pub(crate) fn message(arguments: &str, attachments: &[impl AsRef<[u8]>]) -> Value {
    let Ok(mut value) = serde_json::from_str(arguments) else {
        return arguments.into();
    };
    attach(&mut value, attachments);
    value
}

/// Puts bytes into their places, as `{"$bytes": "…"}`.
pub(crate) fn attach(value: &mut Value, attachments: &[impl AsRef<[u8]>]) {
    let is_place = value["_placeholder"] == true;
    let number = value["num"].as_u64().filter(|_| is_place);
    let number = number.and_then(|number| usize::try_from(number).ok());
    if let Some(bytes) = number.and_then(|number| attachments.get(number)) {
        *value = json!({ BYTES: BASE64_STANDARD.encode(bytes) });
        return;
    }
    match value {
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| attach(value, attachments)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| attach(value, attachments)),
        _ => {}
    }
}

/// JSON that was checked when it was recorded.
fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}

/// What a call writes to the store, its timers as well.
pub(crate) fn written(writes: &BTreeMap<Key, Write>) -> Vec<Shown> {
    let writes = writes.iter();
    let shown = writes.map(|(key, write)| {
        let of_timer = owner(key).is_some();
        let to = match of_timer {
            true => key.name().to_owned(),
            false => format!("{} {}", key.bucket(), key.name()),
        };
        let (what, value) = match (write, of_timer) {
            (Write::Set(value), true) => ("set timer", timer(value)),
            (Write::Delete, true) => ("end timer", None),
            (Write::Set(value), false) => ("store", Some(stored(value))),
            (Write::Delete, false) => ("delete", None),
            (Write::Add(by), _) => ("add", Some(json!(by))),
        };
        Shown {
            what,
            to,
            event: None,
            value,
        }
    });
    shown.collect()
}

fn timer(value: &store::Value) -> Option<Value> {
    let timer = Timer::of_value(value).ok()?;
    Some(json!({
        "due": timer.due,
        "every": timer.every,
        "payload": parsed(&timer.payload),
    }))
}

/// What a plugin stored: JSON, or a text, or bytes.
pub(crate) fn stored(value: &store::Value) -> Value {
    let bytes = &value.bytes;
    serde_json::from_slice(bytes).unwrap_or_else(|_| match str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!(format!("{} bytes that are no text", bytes.len())),
    })
}
