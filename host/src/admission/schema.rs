//! JSON Schemas of arguments, compiled once for each load of a plugin.

use jsonschema::{Draft, PatternOptions, Validator};
use serde::Serialize;
use serde_json::Value;

use crate::message::Arguments;

/// A schema's text may be so long; compiling a longer one would hold up a reload.
const MAX_SCHEMA_BYTES: usize = 256 << 10;

/// How much of an offending value an error shows.
const MAX_SHOWN_CHARS: usize = 200;

/// A compiled schema of an argument array.
#[derive(Debug)]
pub struct Schema(Validator);

/// What is wrong with arguments, and where.
#[derive(Debug, Serialize)]
pub struct Violation {
    /// JSON Pointer into the argument array, e.g. `/0/hours`; `arguments` for the array itself.
    pub path: String,
    /// What was expected and what was found.
    pub message: String,
}

impl Schema {
    /// Compiles a JSON Schema (draft 2020-12). References to other documents are not followed.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(format!(
                "it has {} bytes; {MAX_SCHEMA_BYTES} are allowed",
                text.len()
            ));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            // Linear time, whatever pattern meets whatever text.
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Checks arguments; reports the first violation.
    pub fn check(&self, arguments: &Arguments) -> Result<(), Violation> {
        let value: Value = serde_json::from_str(arguments.as_str()).map_err(|error| Violation {
            path: "arguments".to_owned(),
            message: error.to_string(),
        })?;
        self.0.validate(&value).map_err(|error| Violation {
            path: match error.instance_path().as_str() {
                "" => "arguments".to_owned(),
                path => path.to_owned(),
            },
            message: shortened(error.to_string()),
        })
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
