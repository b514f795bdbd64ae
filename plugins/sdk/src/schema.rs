//! JSON Schemas (draft 2020-12) from Rust types.
//!
//! [`Event::handle`](crate::Event::handle) and its sisters call these by themselves.
use std::any::TypeId;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::Arguments;

/// The schema of an argument array, as JSON text.
#[must_use]
pub fn of_arguments<A: Arguments>() -> String {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let schema = A::schema(&mut generator);
    finish(schema, generator)
}

/// The schema of an ack or an emit with one argument of this type, as JSON text. None if anything goes, so
/// that the host does not check what cannot be wrong.
#[must_use]
pub fn of_reply<T: JsonSchema + 'static>() -> Option<String> {
    if TypeId::of::<T>() == TypeId::of::<()>() {
        return None;
    }
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let schema = generator.subschema_for::<T>();
    if schema.as_bool() == Some(true) {
        return None;
    }
    let schema =
        json_schema!({ "type": "array", "prefixItems": [schema], "minItems": 1, "maxItems": 1 });
    Some(finish(schema, generator))
}

/// Adds the definitions that the schema refers to.
fn finish(mut schema: Schema, mut generator: SchemaGenerator) -> String {
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        schema.insert("$defs".to_owned(), definitions.into());
    }
    schema.to_value().to_string()
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::{Value, json};

    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    struct Beat {
        bpm: u16,
    }

    fn check<A: Arguments>(expected: Value) {
        assert_eq!(
            serde_json::from_str::<Value>(&of_arguments::<A>()).unwrap(),
            expected
        );
    }

    #[test]
    fn arguments_are_an_array_of_fixed_length() {
        check::<()>(json!({ "type": "array", "minItems": 0, "maxItems": 0 }));
        check::<(Value,)>(
            json!({ "type": "array", "prefixItems": [true], "minItems": 1, "maxItems": 1 }),
        );
        check::<(String, Option<bool>)>(json!({
            "type": "array",
            "prefixItems": [{ "type": "string" }, { "type": ["boolean", "null"] }],
            "minItems": 1,
            "maxItems": 2
        }));
        check::<Vec<String>>(json!({ "type": "array", "items": { "type": "string" } }));
    }

    #[test]
    fn a_reply_of_any_json_has_no_schema() {
        assert_eq!(of_reply::<Value>(), None);
        assert_eq!(of_reply::<()>(), None);
        let schema: Value = serde_json::from_str(&of_reply::<Beat>().unwrap()).unwrap();
        assert_eq!(schema["prefixItems"][0]["$ref"], "#/$defs/Beat");
        assert_eq!(schema["$defs"]["Beat"]["required"], json!(["bpm"]));
    }
}
