//! What checks against a schema may cost, known before it is compiled.
//!
//! A check goes through the places of the arguments, and at each through the subschemas that apply
//! there. Nothing can interrupt it, so the number of steps has a bound: the weight of the schema
//! times the bytes of the arguments.

use std::{borrow::Cow, collections::HashMap, time::Instant};

use jsonschema::PatternCache;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::pattern;

/// What the checks against one schema may cost, for each byte of the arguments.
pub(super) const MAX_WEIGHT: usize = 4096;

/// A step of a pattern goes through so many of its states.
const STATES_IN_A_STEP: usize = 2;

/// How deep subschemas may be nested, references followed. Compiling and checking are recursive.
const MAX_DEPTH: usize = 96;

/// What all schemas of a plugin may cost together: memory while they are there, time while they are
/// compiled.
pub struct Budget {
    weight: usize,
    patterns: usize,
    states: usize,
    until: Instant,
    /// The states of the patterns so far.
    known: HashMap<String, usize>,
    /// The patterns so far. Each is compiled once, in whatever schemas it is.
    pub compiled: PatternCache,
}

impl Budget {
    /// The whole of it, to be used up before `until`.
    pub fn new(until: Instant) -> Self {
        Self {
            weight: 32 * MAX_WEIGHT,
            patterns: 256,
            states: 8 * pattern::MAX_STATES,
            until,
            known: HashMap::new(),
            compiled: PatternCache::new(),
        }
    }

    fn take_weight(&mut self, weight: usize) -> Result<(), String> {
        let left = self.weight.checked_sub(weight);
        self.weight = left.ok_or("with it, the plugin's schemas have too many subschemas")?;
        Ok(())
    }

    /// How many states a pattern has. Those of a pattern are taken once.
    fn take_pattern(&mut self, pattern: &str) -> Result<usize, String> {
        if let Some(states) = self.known.get(pattern) {
            return Ok(*states);
        }
        let states = pattern::states(pattern)?;
        let patterns_left = self.patterns.checked_sub(1);
        let left = patterns_left.zip(self.states.checked_sub(states));
        (self.patterns, self.states) =
            left.ok_or("with it, the plugin's schemas have too many or too large patterns")?;
        self.check_time()?;
        self.known.insert(pattern.to_owned(), states);
        Ok(states)
    }

    /// An error if the time is over.
    pub fn check_time(&self) -> Result<(), String> {
        if Instant::now() >= self.until {
            return Err("with it, the plugin's schemas take longer than the budget compile".into());
        }
        Ok(())
    }
}

/// What is known of a schema from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// The steps of a check, for each byte of the arguments. At least 1.
    pub steps: usize,
    /// Whether it has alternatives. A violation tells what is wrong with each of them, and so may take
    /// much more memory than the arguments.
    pub has_alternatives: bool,
}

impl Weight {
    /// Of a schema, taken from what is left for its plugin.
    pub(super) fn of(schema: &Value, budget: &mut Budget) -> Result<Self, String> {
        refuse_embedded(schema, true)?;
        let mut scale = Scale {
            root: schema,
            steps: 0,
            has_alternatives: false,
            references: Vec::new(),
            budget,
        };
        scale.schema(schema, Scope::default())?;
        Ok(Self {
            steps: scale.steps,
            has_alternatives: scale.has_alternatives,
        })
    }
}

/// References are followed as those of one document. A schema within it that has a name or a version
/// of its own would give them another meaning.
fn refuse_embedded(value: &Value, is_root: bool) -> Result<(), String> {
    match value {
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| refuse_embedded(item, false)),
        Value::Object(fields) => {
            for keyword in ["$id", "$schema"] {
                if !is_root && fields.get(keyword).is_some_and(Value::is_string) {
                    return Err(format!("{keyword} is for the schema as a whole only"));
                }
            }
            fields
                .values()
                .try_for_each(|field| refuse_embedded(field, false))
        }
        _ => Ok(()),
    }
}

/// How often a subschema is looked at for one place.
#[derive(Clone, Copy)]
struct Scope {
    times: usize,
    depth: usize,
    /// The schema, or one around it for the same place, asks which properties or items its parts have
    /// seen. The parts are checked again for that, and so are the parts of these.
    is_asked: bool,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            times: 1,
            depth: 0,
            is_asked: false,
        }
    }
}

impl Scope {
    /// Of a subschema for the same place.
    fn same_place(self) -> Self {
        let times = if self.is_asked {
            self.times.saturating_mul(3)
        } else {
            self.times
        };
        Self { times, ..self }
    }

    /// Of a subschema for what is within.
    fn within(self) -> Self {
        Self {
            is_asked: false,
            ..self
        }
    }
}

struct Scale<'a, 'b> {
    root: &'a Value,
    steps: usize,
    has_alternatives: bool,
    /// The references that are being followed.
    references: Vec<Cow<'a, str>>,
    budget: &'b mut Budget,
}

impl<'a> Scale<'a, '_> {
    fn add(&mut self, steps: usize, scope: Scope) -> Result<(), String> {
        let steps = steps.saturating_mul(scope.times);
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_WEIGHT {
            return Err(format!(
                "it is too heavy: more than {MAX_WEIGHT} subschemas and states of patterns, references \
                 followed"
            ));
        }
        self.budget.take_weight(steps)
    }

    fn schema(&mut self, schema: &'a Value, scope: Scope) -> Result<(), String> {
        self.add(1, scope)?;
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        if scope.depth == MAX_DEPTH {
            return Err(format!(
                "it is nested deeper than {MAX_DEPTH} subschemas, references followed"
            ));
        }
        let asks = |keyword: &str| keywords.contains_key(keyword);
        let scope = Scope {
            depth: scope.depth + 1,
            is_asked: scope.is_asked || asks("unevaluatedProperties") || asks("unevaluatedItems"),
            ..scope
        };
        keywords
            .iter()
            .try_for_each(|(keyword, value)| self.keyword(keyword, value, scope))
    }

    /// Keywords that nobody knows are not looked at: what is in them counts where it is referred to.
    fn keyword(&mut self, keyword: &'a str, value: &'a Value, scope: Scope) -> Result<(), String> {
        let (same, within) = (scope.same_place(), scope.within());
        match keyword {
            "$ref" => self.reference(value, same),
            "$dynamicRef" | "$recursiveRef" => Err(format!("{keyword} is not supported")),
            "anyOf" | "oneOf" => {
                self.has_alternatives = true;
                self.each(value, same)
            }
            "allOf" => self.each(value, same),
            "not" | "if" | "then" | "else" => self.schema(value, same),
            "dependentSchemas" | "dependencies" => self.each(value, same),
            "prefixItems" | "items" | "additionalItems" if value.is_array() => {
                self.each(value, within)
            }
            "items"
            | "additionalItems"
            | "contains"
            | "propertyNames"
            | "contentSchema"
            | "additionalProperties"
            | "unevaluatedItems"
            | "unevaluatedProperties" => self.schema(value, within),
            "properties" => self.each(value, within),
            "patternProperties" => {
                for pattern in value.as_object().into_iter().flat_map(Map::keys) {
                    // Once to find the schema of a property, once to know which properties have one.
                    self.pattern(pattern, scope)?;
                    self.pattern(pattern, scope)?;
                }
                self.each(value, within)
            }
            "pattern" => match value {
                Value::String(pattern) => self.pattern(pattern, scope),
                _ => Ok(()),
            },
            "enum" | "const" | "required" | "type" | "dependentRequired" => {
                self.values(value, scope)
            }
            "$defs" | "definitions" => Ok(()),
            _ => self.add(1, scope),
        }
    }

    /// The subschemas of an array or an object. Anything else is no schema, and refused later.
    fn each(&mut self, schemas: &'a Value, scope: Scope) -> Result<(), String> {
        match schemas {
            Value::Array(schemas) => schemas
                .iter()
                .try_for_each(|schema| self.schema(schema, scope)),
            // A dependency may be a list of names.
            Value::Object(schemas) => schemas.values().try_for_each(|schema| match schema {
                Value::Array(_) => self.values(schema, scope),
                _ => self.schema(schema, scope),
            }),
            _ => Ok(()),
        }
    }

    /// Values that those of the arguments are compared with.
    fn values(&mut self, value: &Value, scope: Scope) -> Result<(), String> {
        self.add(1, scope)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.values(item, scope)),
            Value::Object(fields) => fields
                .values()
                .try_for_each(|field| self.values(field, scope)),
            _ => Ok(()),
        }
    }

    fn pattern(&mut self, pattern: &str, scope: Scope) -> Result<(), String> {
        let states = self.budget.take_pattern(pattern)?;
        self.add(states.div_ceil(STATES_IN_A_STEP), scope)
    }

    fn reference(&mut self, value: &'a Value, scope: Scope) -> Result<(), String> {
        let Value::String(reference) = value else {
            return Ok(());
        };
        let nothing = || format!("{reference:?} refers to nothing in it");
        let pointer = reference.strip_prefix('#').ok_or_else(nothing)?;
        let pointer = percent_decode_str(pointer)
            .decode_utf8()
            .map_err(|_| nothing())?;
        if self.references.contains(&pointer) {
            return Err(format!("it refers to itself by {reference:?}"));
        }
        let target = self.root.pointer(&pointer).ok_or_else(nothing)?;
        self.references.push(pointer);
        self.schema(target, scope)?;
        self.references.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn budget() -> Budget {
        Budget::new(Instant::now() + Duration::from_secs(60))
    }

    fn steps(schema: &Value) -> Result<usize, String> {
        Weight::of(schema, &mut budget()).map(|weight| weight.steps)
    }

    #[test]
    fn all_that_a_check_looks_at_has_weight() {
        let light = json!({"type": "string"});
        let heavy = json!({"enum": (0..100).collect::<Vec<_>>()});
        for keyword in [
            "not",
            "if",
            "items",
            "contains",
            "propertyNames",
            "additionalProperties",
            "unevaluatedItems",
        ] {
            assert!(
                steps(&json!({ keyword: heavy })).unwrap() > 100,
                "{keyword}"
            );
        }
        for keyword in ["allOf", "anyOf", "oneOf", "prefixItems"] {
            assert!(
                steps(&json!({ keyword: [light, heavy] })).unwrap() > 100,
                "{keyword}"
            );
        }
        // Words of schemas are names like any other among properties.
        for name in [
            "a", "enum", "const", "default", "$defs", "examples", "title", "$ref",
        ] {
            for keyword in ["properties", "dependentSchemas"] {
                let schema = json!({ keyword: { name: heavy } });
                assert!(steps(&schema).unwrap() > 100, "{keyword} {name}");
            }
        }
        for schema in [
            json!({"pattern": "^(?:a?){1000}b"}),
            json!({"patternProperties": {"^(?:a?){1000}b": true}}),
            json!({"required": vec!["a"; 1000]}),
            json!({"const": {"a": vec![0; 1000]}}),
            json!({"dependentRequired": {"a": vec!["a"; 1000]}}),
            json!({"dependencies": {"a": vec!["a"; 1000]}}),
        ] {
            assert!(steps(&schema).unwrap() > 1000, "{schema}");
        }
        for schema in [
            json!({"$defs": {"unused": heavy}}),
            json!({"default": heavy, "examples": [heavy]}),
        ] {
            assert!(steps(&schema).unwrap() < 10, "{schema}");
        }
    }

    #[test]
    fn what_is_referred_to_counts_as_often_as_it_is() {
        let of = |references: usize| {
            let schema = json!({
                "prefixItems": vec![json!({"$ref": "#/$defs/a%20b"}); references],
                "$defs": {"a b": {"enum": [1, 2, 3]}},
            });
            steps(&schema).unwrap()
        };
        assert_eq!(of(20) - of(10), 10 * (of(2) - of(1)));
        assert!(of(2) - of(1) >= 5);
    }

    #[test]
    fn a_schema_whose_check_has_no_bound_is_refused() {
        let doubling: Map<String, Value> = (0..20)
            .map(|n| {
                let next = json!({"$ref": format!("#/$defs/a{}", n + 1)});
                (format!("a{n}"), json!({"anyOf": [next, next]}))
            })
            .chain([("a20".to_owned(), json!(true))])
            .collect();
        let nested = (0..MAX_DEPTH).fold(json!(true), |inner, _| json!({"items": inner}));
        let asked = (0..8).fold(
            json!(true),
            |inner, _| json!({"anyOf": [inner], "unevaluatedProperties": false}),
        );
        let patterns: Vec<Value> = (0..40)
            .map(|n| json!({"pattern": format!(r"^\p{{L}}{n}")}))
            .collect();
        for (schema, reason) in [
            (json!({"items": {"$ref": "#"}}), "refers to itself"),
            (
                json!({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"not": {"$ref": "#/$defs/%61"}}}}),
                "refers to itself",
            ),
            (
                json!({"$ref": "#/$defs/a0", "$defs": doubling}),
                "too heavy",
            ),
            (json!({"enum": (0..5000).collect::<Vec<_>>()}), "too heavy"),
            (json!({"items": nested}), "nested deeper than 96"),
            (asked, "too heavy"),
            (json!({"allOf": patterns}), "too heavy"),
            (json!({"pattern": "^(?:a?){20000}b"}), "too large"),
            (
                json!({"$ref": "https://example.com/x"}),
                "refers to nothing",
            ),
            (json!({"$dynamicRef": "#a"}), "not supported"),
            (
                json!({"$defs": {"a": {"$id": "https://example.com/a"}}}),
                "$id is for the schema as a whole",
            ),
            (
                json!({"not": {"$schema": "http://json-schema.org/draft-07/schema#"}}),
                "$schema is for",
            ),
        ] {
            let error = steps(&schema).unwrap_err();
            assert!(error.contains(reason), "{schema}: {error}");
        }
    }

    #[test]
    fn the_schemas_of_a_plugin_share_a_budget() {
        let mut budget = budget();
        let pattern = |number: usize| json!({"pattern": format!("^(?:a?){{1000}}b{number}")});
        assert!((0..50).all(|_| Weight::of(&pattern(0), &mut budget).is_ok()));
        let error = (0..).find_map(|number| Weight::of(&pattern(number), &mut budget).err());
        assert_eq!(
            error.unwrap(),
            "with it, the plugin's schemas have too many or too large patterns"
        );
        let values = json!({"enum": (0..4000).collect::<Vec<_>>()});
        let error = (0..).find_map(|_| Weight::of(&values, &mut budget).err());
        assert_eq!(
            error.unwrap(),
            "with it, the plugin's schemas have too many subschemas"
        );
        let mut late = Budget::new(Instant::now());
        let error = Weight::of(&pattern(0), &mut late).unwrap_err();
        assert!(
            error.ends_with("take longer than the budget compile"),
            "{error}"
        );
    }
}
