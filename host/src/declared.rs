//! What a plugin says of its events, as people and programs are told.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    admission::scope_name,
    guest::{Access, Description, EmitContract, EventContract, OnExcess, RateLimit, SerialKey},
};

/// The events that a plugin handles and emits, each by name.
#[derive(Debug)]
pub(crate) struct Declared {
    /// What it handles.
    pub events: Vec<Event>,
    /// What it says that it emits.
    pub emits: Vec<Emit>,
}

/// An event that the plugin emits.
#[derive(Debug, Serialize)]
pub struct Emit {
    /// The event's name.
    pub name: String,
    /// JSON Schema of the argument array.
    pub arguments: Option<Box<RawValue>>,
}

/// An event's contract.
#[derive(Debug, Serialize)]
pub struct Event {
    /// The event's name.
    pub name: String,
    /// `anyone`, `authenticated` or roles.
    pub access: String,
    /// JSON Schema of the argument array.
    pub arguments: Option<Box<RawValue>>,
    /// JSON Schema of the ack's argument array.
    pub reply: Option<Box<RawValue>>,
    /// E.g. `100/10s by socket`.
    pub limits: Vec<String>,
    /// What becomes of it over a limit, `answer` or `drop`; none leaves it to `mixlab.toml`.
    pub on_excess: Option<&'static str>,
    /// In bytes.
    pub max_bytes: Option<u32>,
    /// What its calls have in common that run one after the other.
    pub serial_by: Option<String>,
}

impl Declared {
    /// What a description says.
    pub(crate) fn of(description: &Description) -> Self {
        let mut events: Vec<Event> = description.events.iter().map(Event::new).collect();
        events.sort_by(|a, b| a.name.cmp(&b.name));
        let mut emits: Vec<Emit> = description.emits.iter().map(Emit::new).collect();
        emits.sort_by(|a, b| a.name.cmp(&b.name));
        Self { events, emits }
    }
}

impl Emit {
    fn new(contract: &EmitContract) -> Self {
        Self {
            name: contract.name.clone(),
            arguments: schema(&contract.arguments),
        }
    }
}

impl Event {
    fn new(contract: &EventContract) -> Self {
        Self {
            name: contract.name.clone(),
            access: match &contract.access {
                Access::Anyone => "anyone".to_owned(),
                Access::Authenticated => "authenticated".to_owned(),
                Access::Roles(roles) => format!("roles {}", roles.join(", ")),
            },
            arguments: schema(&contract.arguments),
            reply: schema(&contract.reply),
            limits: contract.limits.iter().map(limit_text).collect(),
            on_excess: contract.on_excess.map(excess_text),
            max_bytes: contract.max_bytes,
            serial_by: contract.serial_by.as_ref().map(serial_text),
        }
    }
}

fn excess_text(on_excess: OnExcess) -> &'static str {
    match on_excess {
        OnExcess::Answer => "answer",
        OnExcess::Drop => "drop",
    }
}

fn serial_text(key: &SerialKey) -> String {
    match key {
        SerialKey::Pointer(pointer) => pointer.clone(),
        SerialKey::Namespace => "the namespace".to_owned(),
        SerialKey::Constant(text) => format!("{text:?}"),
    }
}

/// Text that is no JSON is refused right after, when the contract is compiled.
fn schema(text: &Option<String>) -> Option<Box<RawValue>> {
    RawValue::from_string(text.clone()?).ok()
}

fn limit_text(limit: &RateLimit) -> String {
    let interval = Duration::from_millis(limit.interval_ms.into());
    let interval = humantime::format_duration(interval);
    let burst = limit
        .burst
        .map(|burst| format!(" burst {burst}"))
        .unwrap_or_default();
    let scope = scope_name(limit.scope);
    format!("{}/{interval}{burst} by {scope}", limit.count)
}
