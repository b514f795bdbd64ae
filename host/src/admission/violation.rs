//! What is wrong with arguments, in words for programs and for people.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde::Serialize;
use serde_json::Value;

use crate::shorten::shortened;

/// How much of a path is shown. Names within it may be as long as the client likes.
const MAX_PATH_CHARS: usize = 200;

/// How long a message about an offending value may be.
const MAX_MESSAGE_CHARS: usize = 200;

/// How much of an offending value, or of what was expected instead, an error shows.
const MAX_SHOWN_CHARS: usize = 100;

/// What is wrong with arguments, and where.
#[derive(Debug, Serialize)]
pub struct Violation {
    /// JSON Pointer into the argument array, e.g. `/0/hours`; `arguments` for the array itself.
    pub path: String,
    /// What was expected and what was found, in a sentence.
    pub message: String,
    /// What was expected there, e.g. `number >= 1`.
    pub expected: String,
    /// What was found there: the beginning of its JSON.
    pub found: String,
}

impl Violation {
    /// Of the argument array as a whole.
    pub fn of_all(message: String, expected: String, found: String) -> Self {
        Self {
            path: "arguments".to_owned(),
            message,
            expected,
            found,
        }
    }
}

impl Violation {
    /// What the validator found wrong with `arguments`, given as JSON.
    pub fn found_in(arguments: &str, error: &ValidationError<'_>) -> Self {
        let path = error.instance_path().as_str();
        let object = is_closed(error)
            .then(|| value_at(arguments, path))
            .flatten();
        let (message, expected, found) = match &object {
            Some(object) => (
                shortened(
                    &format_args!("no properties are allowed in {object}"),
                    MAX_MESSAGE_CHARS,
                ),
                "object without properties".to_owned(),
                shortened(object, MAX_SHOWN_CHARS),
            ),
            None => (
                shortened(error, MAX_MESSAGE_CHARS),
                expected(error.kind()),
                shortened(&**error.instance(), MAX_SHOWN_CHARS),
            ),
        };
        Self {
            path: match path {
                "" => "arguments".to_owned(),
                path => shortened(path, MAX_PATH_CHARS),
            },
            message,
            expected,
            found,
        }
    }
}

fn value_at(arguments: &str, path: &str) -> Option<Value> {
    let mut arguments: Value = serde_json::from_str(arguments).ok()?;
    arguments.pointer_mut(path).map(Value::take)
}

/// Whether it is about a property of an object that has none. The validator tells of the value only,
/// as if the property had a schema that allows nothing.
fn is_closed(error: &ValidationError<'_>) -> bool {
    let schema = error.schema_path().as_str();
    matches!(error.kind(), Kind::FalseSchema) && schema.ends_with("/additionalProperties")
}

fn expected(kind: &Kind) -> String {
    let text = match kind {
        Kind::Type {
            kind: TypeKind::Single(name),
        } => format!("{name}"),
        Kind::Type {
            kind: TypeKind::Multiple(names),
        } => {
            let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
            names.join(" or ")
        }
        Kind::Minimum { limit } => format!("number >= {limit}"),
        Kind::Maximum { limit } => format!("number <= {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("number > {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("number < {limit}"),
        Kind::MultipleOf { multiple_of } => format!("multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("at least {}", counted(*limit, "character")),
        Kind::MaxLength { limit } => format!("at most {}", counted(*limit, "character")),
        Kind::MinItems { limit } => format!("at least {}", counted(*limit, "item")),
        Kind::MaxItems { limit } => format!("at most {}", counted(*limit, "item")),
        Kind::AdditionalItems { limit } => format!("at most {}", counted(*limit as u64, "item")),
        Kind::MinProperties { limit } => format!("at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("at most {limit} properties"),
        Kind::Required { property } => format!("property {property}"),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            match unexpected.first() {
                Some(name) => format!("no property {}", Value::from(name.as_str())),
                None => "no more properties".to_owned(),
            }
        }
        Kind::Enum { options } => format!("one of {}", shortened(&**options, MAX_SHOWN_CHARS)),
        Kind::Constant { expected_value } => shortened(&**expected_value, MAX_SHOWN_CHARS),
        Kind::Pattern { pattern } => format!("text that matches {pattern}"),
        Kind::Format { format } => format!("text in the format {format}"),
        Kind::UniqueItems => "items that differ".to_owned(),
        Kind::FalseSchema => "nothing".to_owned(),
        // What these combine is in the schema; there is no short word for it.
        other => format!("what {:?} of the schema says", other.keyword()),
    };
    shortened(&text, MAX_SHOWN_CHARS)
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violation(schema: Value, found: &Value) -> (String, String, String) {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let violation =
            Violation::found_in(&found.to_string(), &validator.validate(found).unwrap_err());
        (violation.path, violation.expected, violation.found)
    }

    #[test]
    fn path_expectation_and_finding_are_named() {
        for (schema, found, path, expected, shown) in [
            (
                json!({"items": {"minimum": 1}}),
                json!([-3]),
                "/0",
                "number >= 1",
                "-3",
            ),
            (
                json!({"type": "array"}),
                json!({"a": 1}),
                "arguments",
                "array",
                r#"{"a":1}"#,
            ),
            (
                json!({"type": ["string", "null"]}),
                json!(7),
                "arguments",
                "null or string",
                "7",
            ),
            (
                json!({"items": {"minLength": 1}}),
                json!([""]),
                "/0",
                "at least 1 character",
                r#""""#,
            ),
            (
                json!({"maxItems": 2}),
                json!([1, 2, 3]),
                "arguments",
                "at most 2 items",
                "[1,2,3]",
            ),
            (
                json!({"required": ["a"]}),
                json!({}),
                "arguments",
                r#"property "a""#,
                "{}",
            ),
            (
                json!({"properties": {"b": {}}, "additionalProperties": false}),
                json!({"a\"": 1}),
                "arguments",
                r#"no property "a\"""#,
                r#"{"a\"":1}"#,
            ),
            (
                json!({"items": {"additionalProperties": false}}),
                json!([{"a": 1}]),
                "/0",
                "object without properties",
                r#"{"a":1}"#,
            ),
            (
                json!({"items": {"properties": {"a": false}}}),
                json!([{"a": 1}]),
                "/0/a",
                "nothing",
                "1",
            ),
            (
                json!({"enum": ["x", 2]}),
                json!(3),
                "arguments",
                r#"one of ["x",2]"#,
                "3",
            ),
            (json!({"const": null}), json!(3), "arguments", "null", "3"),
            (
                json!({"anyOf": [{"const": 1}, {"const": 2}]}),
                json!(3),
                "arguments",
                r#"what "anyOf" of the schema says"#,
                "3",
            ),
        ] {
            let expected = (path.to_owned(), expected.to_owned(), shown.to_owned());
            assert_eq!(violation(schema.clone(), &found), expected, "{schema}");
        }
    }

    #[test]
    fn properties_where_there_are_none_are_said_to_be_too_many() {
        let (schema, found) = (json!({"additionalProperties": false}), json!({"a": 1}));
        let validator = jsonschema::validator_for(&schema).unwrap();
        let violation =
            Violation::found_in(&found.to_string(), &validator.validate(&found).unwrap_err());
        assert_eq!(violation.message, r#"no properties are allowed in {"a":1}"#);
    }

    #[test]
    fn no_more_than_the_beginning_is_shown() {
        let long = "ü".repeat(1000);
        let schema = json!({"enum": [long.clone() + "x"]});
        let (_, expected, found) = violation(schema, &json!([long]));
        assert_eq!(found, format!("[\"{}…", "ü".repeat(MAX_SHOWN_CHARS - 2)));
        assert_eq!(expected.chars().count(), MAX_SHOWN_CHARS + 1);
        let (path, ..) = violation(
            json!({"additionalProperties": {"type": "null"}}),
            &json!({long: 1}),
        );
        assert_eq!(path, format!("/{}…", "ü".repeat(MAX_PATH_CHARS - 1)));
    }
}
