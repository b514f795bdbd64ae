//! JSON Schemas of arguments, compiled once for each load of a plugin.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::{
    document::{Document, Documents},
    violation::Violation,
};
use crate::message::Arguments;

/// A schema's text may be so long; compiling a longer one would hold up a reload.
const MAX_SCHEMA_BYTES: usize = 256 << 10;

/// A schema may hold so many subschemas, each counted as often as it is referred to.
const MAX_WEIGHT: usize = 4096;

/// A check may take so many steps: subschemas times bytes of the arguments. It cannot be
/// interrupted, so what could take longer is refused.
const MAX_STEPS: usize = 64 << 20;

/// A compiled schema of an argument array.
#[derive(Debug)]
pub struct Schema {
    validator: Validator<Documents>,
    weight: usize,
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
        let weight = weight(&schema)?;
        let validator = jsonschema::options_for::<Documents>()
            .with_draft(Draft::Draft202012)
            // Linear time, whatever pattern meets whatever text.
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| error.to_string())?;
        Ok(Self { validator, weight })
    }

    /// Checks arguments; reports the first violation.
    pub fn check(&self, arguments: &Arguments) -> Result<(), Violation> {
        let size = arguments.as_str().len();
        if size.saturating_mul(self.weight) > MAX_STEPS {
            return Err(Violation::of_all(
                format!("{size} bytes are too many to be checked against this schema"),
                format!("at most {} bytes", MAX_STEPS / self.weight),
                format!("{size} bytes"),
            ));
        }
        // What is still wrong with checked JSON: a number that no number type holds.
        let document: Document<'_> = serde_json::from_str(arguments.as_str()).map_err(|error| {
            let found = error.to_string();
            Violation::of_all(
                found.clone(),
                "numbers that can be represented".into(),
                found,
            )
        })?;
        self.validator
            .validate(&document)
            .map_err(|error| Violation::found_in(arguments.as_str(), &error))
    }
}

/// How many subschemas a check may visit at each place, references followed. A schema that refers
/// to itself has no such number: its checks may take time without bound.
fn weight(root: &Value) -> Result<usize, String> {
    weigh(root, root, &mut Vec::new())
}

fn weigh<'a>(
    schema: &'a Value,
    root: &'a Value,
    within: &mut Vec<&'a str>,
) -> Result<usize, String> {
    let mut weight = 1;
    let mut add = |more: usize| {
        weight += more;
        if weight > MAX_WEIGHT {
            return Err(format!(
                "it has more than {MAX_WEIGHT} subschemas, references followed"
            ));
        }
        Ok(())
    };
    match schema {
        Value::Array(schemas) => {
            for schema in schemas {
                add(weigh(schema, root, within)?)?;
            }
        }
        Value::Object(keywords) => {
            for (keyword, value) in keywords {
                match (keyword.as_str(), value) {
                    ("$defs" | "definitions" | "const" | "enum" | "default" | "examples", _) => {}
                    ("$ref", Value::String(reference)) => {
                        if within.contains(&reference.as_str()) {
                            return Err(format!("it refers to itself by {reference:?}"));
                        }
                        let target = reference.strip_prefix('#').and_then(|at| root.pointer(at));
                        let target = target
                            .ok_or_else(|| format!("{reference:?} refers to nothing in it"))?;
                        within.push(reference);
                        add(weigh(target, root, within)?)?;
                        within.pop();
                    }
                    ("$dynamicRef" | "$recursiveRef", _) => {
                        return Err(format!("{keyword} is not supported"));
                    }
                    (_, value) => add(weigh(value, root, within)?)?,
                }
            }
        }
        _ => {}
    }
    Ok(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_whose_check_has_no_bound_is_refused() {
        let doubling: String = (0..20)
            .map(|n| format!(r##""a{n}":{{"anyOf":[{{"$ref":"#/$defs/a{0}"}},{{"$ref":"#/$defs/a{0}"}}]}},"##, n + 1))
            .collect();
        for (schema, reason) in [
            (r##"{"items":{"$ref":"#"}}"##.to_owned(), "refers to itself"),
            (
                format!(
                    r##"{{"$ref":"#/$defs/a0","$defs":{{{doubling}"a20":{{"type":"string"}}}}}}"##
                ),
                "more than 4096 subschemas",
            ),
            (
                r##"{"$ref":"https://example.com/x"}"##.to_owned(),
                "refers to nothing",
            ),
        ] {
            let error = Schema::compile(&schema).unwrap_err();
            assert!(error.contains(reason), "{schema}: {error}");
        }
    }
}
