//! Whether a new JSON Schema is narrower than an old one, as far as can be told from the keywords
//! that types derive. Whatever it does not know counts as narrower: better a warning too many.

use serde_json::{Map, Value};

/// Who writes what the schema describes. What clients send breaks when less is accepted, what
/// they receive when more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    FromClient,
    ToClient,
}

/// Keywords that say nothing about which values are valid.
const ANNOTATIONS: [&str; 8] = [
    "$schema",
    "$id",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "$comment",
];

/// Keywords that compare schema by schema, below.
const STRUCTURAL: [&str; 6] = [
    "properties",
    "required",
    "prefixItems",
    "items",
    "additionalProperties",
    "$defs",
];

/// Where and how the new schema is narrower, each as ` at PATH: …`; empty if it is not.
pub(super) fn narrows(old: &Value, new: &Value, direction: Direction) -> Vec<String> {
    // What may come to a client must stay within what came before: the same question, asked the
    // other way round.
    let (wide, narrow) = match direction {
        Direction::FromClient => (old, new),
        Direction::ToClient => (new, old),
    };
    let mut reasons = Vec::new();
    compare("", wide, narrow, &mut reasons);
    reasons
}

fn compare(path: &str, old: &Value, new: &Value, reasons: &mut Vec<String>) {
    let at = if path.is_empty() {
        String::new()
    } else {
        format!(" at {path}")
    };
    let (old, new) = match (old, new) {
        (_, Value::Bool(true)) | (Value::Bool(false), _) => return,
        (Value::Object(old), Value::Object(new)) => (old.clone(), new),
        (Value::Bool(true), Value::Object(new)) => (Map::new(), new),
        _ => return reasons.push(format!("{at}: nothing is accepted any more")),
    };
    if is_open(new) {
        return;
    }
    let nothing = Map::new();
    let properties = |schema: &Map<String, Value>| {
        schema
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&nothing)
            .clone()
    };
    let (old_properties, new_properties) = (properties(&old), properties(new));
    for name in names(new, "required") {
        if !names(&old, "required").contains(&name) {
            reasons.push(format!("{at}: {name:?} is required"));
        }
    }
    let closed = new.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, schema) in &old_properties {
        match new_properties.get(name) {
            Some(new) => compare(&format!("{path}/{name}"), schema, new, reasons),
            None if closed => reasons.push(format!("{at}: {name:?} is no longer accepted")),
            None => {}
        }
    }
    if closed && old.get("additionalProperties") != Some(&Value::Bool(false)) {
        reasons.push(format!("{at}: other properties are no longer accepted"));
    }
    compare_items(path, &at, &old, new, reasons);
    if let (Some(old), Some(new)) = (old.get("$defs"), new.get("$defs"))
        && let (Some(old), Some(new)) = (old.as_object(), new.as_object())
    {
        for (name, schema) in old {
            if let Some(new) = new.get(name) {
                compare(&format!("{path}/$defs/{name}"), schema, new, reasons);
            }
        }
    }
    let known = |key: &str| ANNOTATIONS.contains(&key) || STRUCTURAL.contains(&key);
    for (keyword, value) in new.iter().filter(|(keyword, _)| !known(keyword)) {
        if old
            .get(keyword)
            .is_none_or(|old| is_stricter(keyword, old, value))
        {
            reasons.push(format!("{at}: {keyword} is {value}"));
        }
    }
}

fn compare_items(
    path: &str,
    at: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    reasons: &mut Vec<String>,
) {
    let list = |schema: &Map<String, Value>| {
        schema
            .get("prefixItems")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    for (index, (old, new)) in list(old).iter().zip(&list(new)).enumerate() {
        compare(&format!("{path}/{index}"), old, new, reasons);
    }
    match (old.get("items"), new.get("items")) {
        (Some(old), Some(new)) => compare(&format!("{path}/*"), old, new, reasons),
        (None, Some(new)) if *new != Value::Bool(true) => {
            reasons.push(format!("{at}: items are restricted"));
        }
        _ => {}
    }
}

fn is_open(schema: &Map<String, Value>) -> bool {
    schema
        .keys()
        .all(|keyword| ANNOTATIONS.contains(&keyword.as_str()))
}

fn names(schema: &Map<String, Value>, keyword: &str) -> Vec<String> {
    let list = schema.get(keyword).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn is_stricter(keyword: &str, old: &Value, new: &Value) -> bool {
    if old == new {
        return false;
    }
    match (keyword, old.as_f64(), new.as_f64()) {
        ("minimum" | "exclusiveMinimum" | "minLength" | "minItems", Some(old), Some(new)) => {
            new > old
        }
        ("maximum" | "exclusiveMaximum" | "maxLength" | "maxItems", Some(old), Some(new)) => {
            new < old
        }
        _ => match (keyword, as_set(old), as_set(new)) {
            ("type" | "enum", old, new) => old.iter().any(|value| !new.contains(value)),
            _ => true,
        },
    }
}

fn as_set(value: &Value) -> Vec<Value> {
    value
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![value.clone()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn narrower(old: Value, new: Value) -> bool {
        !narrows(&old, &new, Direction::FromClient).is_empty()
    }

    #[test]
    fn narrower_schemas_are_told_from_wider_ones() {
        let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required});
        let a = json!({"a": {"type": "string"}});
        let ab = json!({"a": {"type": "string"}, "b": {"type": "integer"}});
        for (old, new, narrows) in [
            (json!(true), object(a.clone(), json!(["a"])), true),
            (object(a.clone(), json!(["a"])), json!(true), false),
            (
                object(a.clone(), json!(["a"])),
                object(ab.clone(), json!(["a"])),
                false,
            ),
            (
                object(a.clone(), json!(["a"])),
                object(ab.clone(), json!(["a", "b"])),
                true,
            ),
            (
                object(ab.clone(), json!(["a", "b"])),
                object(ab.clone(), json!(["a"])),
                false,
            ),
            (json!({"maximum": 5}), json!({"maximum": 6}), false),
            (json!({"maximum": 6}), json!({"maximum": 5}), true),
            (
                json!({"type": "string"}),
                json!({"type": ["string", "null"]}),
                false,
            ),
            (
                json!({"type": ["string", "null"]}),
                json!({"type": "string"}),
                true,
            ),
            (
                json!({"description": "x"}),
                json!({"description": "y"}),
                false,
            ),
            (json!({"pattern": "a"}), json!({"pattern": "b"}), true),
            (
                json!({"prefixItems": [{"minimum": 1}], "maxItems": 1}),
                json!({"prefixItems": [{"minimum": 2}], "maxItems": 1}),
                true,
            ),
        ] {
            assert_eq!(
                narrower(old.clone(), new.clone()),
                narrows,
                "{old} -> {new}"
            );
        }
    }

    #[test]
    fn what_clients_receive_is_asked_the_other_way_round() {
        let (old, new) = (
            json!({"type": "string"}),
            json!({"type": ["string", "null"]}),
        );
        assert_eq!(narrows(&old, &new, Direction::ToClient).len(), 1);
        assert!(narrows(&new, &old, Direction::ToClient).is_empty());
    }
}
