//! What changes for clients and admins between two versions of a plugin.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    Event, Inspection,
    schema_diff::{Direction, narrows},
};

/// One difference.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Change {
    /// What differs.
    pub what: String,
    /// Whether a client that works with the old version may fail with the new one.
    pub breaking: bool,
}

/// All differences, in the order of namespaces, requests and events.
pub fn diff(old: &Inspection, new: &Inspection) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut change = |breaking: bool, what: String| changes.push(Change { what, breaking });
    if old.version != new.version {
        change(false, format!("version {} -> {}", old.version, new.version));
    }
    for gone in old
        .namespaces
        .iter()
        .filter(|name| !new.namespaces.contains(name))
    {
        change(true, format!("namespace {gone} is no longer served"));
    }
    for added in new
        .namespaces
        .iter()
        .filter(|name| !old.namespaces.contains(name))
    {
        change(false, format!("namespace {added} is served"));
    }
    for added in new
        .requests
        .iter()
        .filter(|grant| !old.requests.contains(grant))
    {
        change(false, format!("it asks for the grant {added}"));
    }
    for gone in old
        .requests
        .iter()
        .filter(|grant| !new.requests.contains(grant))
    {
        change(false, format!("it no longer asks for the grant {gone}"));
    }
    for gone in old
        .filters
        .iter()
        .filter(|event| !new.filters.contains(event))
    {
        change(false, format!("it no longer filters {gone}"));
    }
    for added in new
        .filters
        .iter()
        .filter(|event| !old.filters.contains(event))
    {
        change(false, format!("it filters {added}"));
    }
    match (old.webhooks, new.webhooks) {
        (true, false) => change(true, "it no longer takes webhooks".to_owned()),
        (false, true) => change(false, "it takes webhooks".to_owned()),
        _ => {}
    }
    let (former, data_version) = (old.data_version, new.data_version);
    if former < data_version {
        let what = format!("it migrates what is stored: data version {former} -> {data_version}");
        change(false, what);
    }
    if former > data_version {
        let what = format!(
            "it is refused where {former} has stored: data version {former} -> {data_version}"
        );
        change(true, what);
    }
    for old_event in &old.events {
        match new.events.iter().find(|event| event.name == old_event.name) {
            Some(new_event) => diff_event(old_event, new_event, &mut change),
            None => change(true, format!("event {} is gone", old_event.name)),
        }
    }
    for added in &new.events {
        if !old.events.iter().any(|event| event.name == added.name) {
            change(false, format!("event {} is new", added.name));
        }
    }
    for new_emit in &new.emits {
        if let Some(old_emit) = old.emits.iter().find(|emit| emit.name == new_emit.name) {
            let (old, new) = (value(&old_emit.arguments), value(&new_emit.arguments));
            for reason in narrows(&old, &new, Direction::ToClient) {
                change(
                    true,
                    format!("emitted event {}: arguments{reason}", new_emit.name),
                );
            }
        }
    }
    for gone in &old.emits {
        if !new.emits.iter().any(|emit| emit.name == gone.name) {
            change(true, format!("event {} is no longer emitted", gone.name));
        }
    }
    changes
}

fn diff_event(old: &Event, new: &Event, change: &mut impl FnMut(bool, String)) {
    let name = &old.name;
    if old.access != new.access {
        let breaking = new.access != "anyone";
        change(
            breaking,
            format!(
                "event {name}: who may send it: {} -> {}",
                old.access, new.access
            ),
        );
    }
    let arguments = (value(&old.arguments), value(&new.arguments));
    for reason in narrows(&arguments.0, &arguments.1, Direction::FromClient) {
        change(true, format!("event {name}: arguments{reason}"));
    }
    let reply = (value(&old.reply), value(&new.reply));
    for reason in narrows(&reply.0, &reply.1, Direction::ToClient) {
        change(true, format!("event {name}: reply{reason}"));
    }
    for (what, (old, new)) in [("arguments", arguments), ("reply", reply)] {
        if old != new {
            change(
                false,
                format!("event {name}: the schema of its {what} changed"),
            );
        }
    }
    if old.limits != new.limits {
        let (old, new) = (old.limits.join(", "), new.limits.join(", "));
        change(false, format!("event {name}: limits: {old} -> {new}"));
    }
    if old.on_excess != new.on_excess {
        let text = |on_excess: Option<&'static str>| on_excess.unwrap_or("as the server says");
        let (old, new) = (text(old.on_excess), text(new.on_excess));
        change(false, format!("event {name}: over a limit: {old} -> {new}"));
    }
    if old.max_bytes != new.max_bytes {
        let smaller = new
            .max_bytes
            .is_some_and(|new| old.max_bytes.is_none_or(|old| new < old));
        let text = |bytes: Option<u32>| {
            bytes.map_or("no limit".to_owned(), |bytes| format!("{bytes} bytes"))
        };
        let (old, new) = (text(old.max_bytes), text(new.max_bytes));
        change(smaller, format!("event {name}: size: {old} -> {new}"));
    }
}

/// No schema allows anything, as the schema `true` does.
fn value(schema: &Option<Box<RawValue>>) -> Value {
    let parsed = schema
        .as_ref()
        .map(|schema| serde_json::from_str(schema.get()));
    parsed.and_then(Result::ok).unwrap_or(Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> Event {
        Event {
            name: name.into(),
            access: "anyone".into(),
            arguments: None,
            reply: None,
            limits: Vec::new(),
            on_excess: None,
            max_bytes: None,
            serial_by: None,
        }
    }

    fn plugin(events: Vec<Event>) -> Inspection {
        Inspection {
            name: "p".into(),
            version: "1.0.0".into(),
            namespaces: vec!["/".into()],
            requests: vec![],
            may_request: vec![],
            connections: false,
            filters: vec![],
            webhooks: false,
            data_version: 0,
            stored: None,
            events,
            emits: vec![],
        }
    }

    fn breaking(old: Vec<Event>, new: Vec<Event>) -> Vec<String> {
        let changes = diff(&plugin(old), &plugin(new));
        changes
            .into_iter()
            .filter(|change| change.breaking)
            .map(|change| change.what)
            .collect()
    }

    #[test]
    fn an_event_that_goes_breaks_clients_and_one_that_comes_does_not() {
        assert_eq!(
            breaking(vec![event("a")], vec![event("b")]),
            ["event a is gone"]
        );
        assert_eq!(breaking(vec![], vec![event("b")]), [""; 0]);
    }

    #[test]
    fn a_version_that_stores_in_an_earlier_form_is_a_break_and_a_later_one_is_told() {
        let stores = |data_version| Inspection {
            data_version,
            ..plugin(vec![])
        };
        for (old, new, is_breaking) in [(1, 2, Some(false)), (2, 1, Some(true)), (2, 2, None)] {
            let changes = diff(&stores(old), &stores(new));
            let breaking: Vec<_> = changes.iter().map(|change| change.breaking).collect();
            assert_eq!(breaking, Vec::from_iter(is_breaking), "{old} -> {new}");
        }
    }

    #[test]
    fn less_access_and_less_room_break_clients() {
        let strict = Event {
            access: "authenticated".into(),
            max_bytes: Some(10),
            ..event("a")
        };
        assert_eq!(breaking(vec![event("a")], vec![strict]).len(), 2);
        let strict = Event {
            access: "authenticated".into(),
            max_bytes: Some(10),
            ..event("a")
        };
        assert_eq!(breaking(vec![strict], vec![event("a")]), [""; 0]);
    }
}
