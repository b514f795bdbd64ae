//! JSON Schemas of arguments, compiled once for each load of a plugin.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::{
    document::{Document, Documents},
    violation::Violation,
    weight::{self, Weight},
};
use crate::{message::Arguments, shorten::shortened};

/// A schema's text may be so long; compiling a longer one would hold up a reload.
const MAX_SCHEMA_BYTES: usize = 256 << 10;

/// A check may take so many steps: the weight of the schema times bytes of the arguments. It cannot
/// be interrupted, so what could take longer is refused.
pub(crate) const MAX_STEPS: usize = 64 << 20;

/// So many steps take milliseconds at worst, and are taken by the thread that read the event.
pub(crate) const MAX_STEPS_AT_ONCE: usize = 256 << 10;

/// Up to so many steps it is told what is wrong with each alternative of a schema. All that is wrong
/// there is collected first, some hundred bytes for each value and subschema.
const MAX_STEPS_TO_EXPLAIN: usize = 64 << 10;

/// What a pattern may keep of its states on each thread that matches it, in bytes.
const MAX_PATTERN_CACHE: usize = 256 << 10;

/// How much of a schema an error shows.
const MAX_SHOWN_CHARS: usize = 300;

/// A compiled schema of an argument array.
#[derive(Debug)]
pub struct Schema {
    validator: Validator<Documents>,
    weight: Weight,
}

impl Schema {
    /// Compiles a JSON Schema (draft 2020-12). References to other documents are not followed.
    pub fn compile(text: &str, budget: &mut weight::Budget) -> Result<Self, String> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(format!(
                "it has {} bytes; {MAX_SCHEMA_BYTES} are allowed",
                text.len()
            ));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let weight = Weight::of(&schema, budget)?;
        let validator = jsonschema::options_for::<Documents>()
            .with_draft(Draft::Draft202012)
            // Linear time, whatever pattern meets whatever text.
            .with_pattern_options(PatternOptions::regex().dfa_size_limit(MAX_PATTERN_CACHE))
            .with_pattern_cache(budget.compiled.clone())
            .build(&schema)
            .map_err(|error| shortened(&error, MAX_SHOWN_CHARS))?;
        budget.check_time()?;
        Ok(Self { validator, weight })
    }

    /// How many steps a check of so many bytes may take. None if it would be too many: what is too
    /// large for its schema is refused without being looked at.
    pub fn steps(&self, bytes: usize) -> usize {
        let steps = self.weigh(bytes);
        if steps > MAX_STEPS { 0 } else { steps }
    }

    fn weigh(&self, bytes: usize) -> usize {
        bytes.saturating_mul(self.weight.steps)
    }

    /// Checks arguments; reports the first violation. See [`Schema::steps`] for how long that may take.
    pub fn check(&self, arguments: &Arguments) -> Result<(), Violation> {
        let size = arguments.as_str().len();
        let steps = self.weigh(size);
        if steps > MAX_STEPS {
            return Err(Violation::of_all(
                format!("{size} bytes are too many to be checked against this schema"),
                format!("at most {} bytes", MAX_STEPS / self.weight.steps),
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
        if self.validator.is_valid(&document) {
            return Ok(());
        }
        if self.weight.has_alternatives && steps > MAX_STEPS_TO_EXPLAIN {
            return Err(Violation::of_all(
                format!("they do not match the schema; {size} bytes are too many to say where"),
                "what the schema says".to_owned(),
                format!("{size} bytes"),
            ));
        }
        self.validator
            .validate(&document)
            .map_err(|error| Violation::found_in(arguments.as_str(), &error))
    }
}
