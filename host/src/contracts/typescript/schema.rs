//! JSON Schema (draft 2020-12) as types. A type lets everything through that the schema does, but for this: a
//! schema that says `properties` or `items` and no `type` means objects or lists. What types cannot say is
//! left to the doc comments, or is `unknown`.

use std::collections::{HashMap, HashSet};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Number, Value};

use super::{
    super::text::Names,
    types::{Field, Object, Tuple, Type},
};

/// A list whose places are counted has so many of them at most.
const MAX_PLACES: usize = 16;

/// What is the same for several places is written out for each if it has so many types altogether at most: lists of
/// lists would have as many as their lengths multiplied.
const MAX_SPELLED: usize = 256;

/// Longer chains of references are followed no further.
const MAX_REFERENCES: usize = 32;

/// Beyond these a number of JavaScript is not the one that was written.
const MAX_EXACT: u64 = (1 << 53) - 1;

/// What the bytes of an attachment are called.
pub(crate) const BINARY: &str = "MixlabBinary";

/// What is said of a value beside its type.
const NOTED: [&str; 17] = [
    "format",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
    "deprecated",
    "contentEncoding",
];

/// A type with a name, so that it can be referred to.
pub(crate) struct Definition {
    pub name: String,
    /// The last part of the pointer to its schema: what it is called there.
    pub called: String,
    pub docs: Vec<String>,
    pub value: Type,
}

/// The types that need names, of all schemas of a document.
pub(crate) struct Definitions {
    pub names: Names,
    pub all: Vec<Definition>,
}

/// A schema that is translated.
struct Translation<'a> {
    root: &'a Value,
    /// What the names of its types begin with.
    owner: &'a [&'a str],
    /// Names of what is referred to, by the pointer to it.
    named: HashMap<String, String>,
    /// Of those, the ones that are still to be translated.
    due: Vec<String>,
    names: &'a mut Names,
}

/// The definition whose type is being written, as long as neither an object nor a list is around it there.
type Bare<'a> = Option<&'a str>;

impl Definitions {
    /// None yet, and none with these names.
    pub(crate) fn without(taken: &[&str]) -> Self {
        Self {
            names: Names::without(taken),
            all: Vec::new(),
        }
    }

    /// The lists that fit a schema of arguments. The names of its types begin with the words of `owner`.
    pub(crate) fn lists(&mut self, schema: &Value, owner: &[&str]) -> Vec<Tuple> {
        self.translate(schema, owner, |translation| {
            translation.lists(schema, MAX_REFERENCES)
        })
    }

    fn translate<T>(
        &mut self,
        root: &Value,
        owner: &[&str],
        translate: impl FnOnce(&mut Translation<'_>) -> T,
    ) -> T {
        let mut translation = Translation {
            root,
            owner,
            named: HashMap::new(),
            due: Vec::new(),
            names: &mut self.names,
        };
        let translated = translate(&mut translation);
        while let Some(pointer) = translation.due.pop() {
            let Some(schema) = root.pointer(&pointer) else {
                continue;
            };
            let value = translation.value(schema, Some(&pointer));
            let called = pointer.rsplit('/').next().unwrap_or_default().to_owned();
            self.all.push(Definition {
                name: translation.named[&pointer].clone(),
                called,
                docs: docs(schema),
                value,
            });
        }
        translated
    }
}

impl Translation<'_> {
    fn lists(&mut self, schema: &Value, fuel: usize) -> Vec<Tuple> {
        let anything = || Tuple {
            rest: Some(Box::new(Type::Unknown)),
            ..Tuple::default()
        };
        let Some(fields) = schema.as_object() else {
            return match self.value(schema, None) {
                Type::Never => Vec::new(),
                _ => vec![anything()],
            };
        };
        if let Some(Value::String(reference)) = fields.get("$ref")
            && !fields.keys().any(|key| shapes(key))
        {
            let target = pointer_of(reference).and_then(|pointer| self.root.pointer(&pointer));
            return match (target, fuel) {
                (Some(target), 1..) => self.lists(target, fuel - 1),
                _ => vec![anything()],
            };
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(several)) = fields.get(key)
                && !fields.keys().any(|other| other != key && shapes(other))
                && fuel > 0
            {
                let lists = several.iter().map(|one| self.lists(one, fuel - 1));
                return lists.collect::<Vec<_>>().concat();
            }
        }
        match self.value(schema, None) {
            Type::Tuple(tuple) => vec![tuple],
            Type::Array(element) => vec![Tuple {
                rest: Some(element),
                ..Tuple::default()
            }],
            _ => vec![anything()],
        }
    }

    /// The type of what fits a schema.
    fn value(&mut self, schema: &Value, bare: Bare<'_>) -> Type {
        let fields = match schema {
            Value::Bool(false) => return Type::Never,
            Value::Object(fields) => fields,
            _ => return Type::Unknown,
        };
        if is_attachment(fields) {
            return Type::Named(BINARY.to_owned());
        }
        let mut all = vec![self.own(fields)];
        if let Some(Value::String(reference)) = fields.get("$ref") {
            all.push(self.reference(reference, bare));
        }
        if let Some(Value::Array(parts)) = fields.get("allOf") {
            all.extend(parts.iter().map(|part| self.value(part, bare)));
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(several)) = fields.get(key) {
                all.push(Type::union(several.iter().map(|one| self.value(one, bare))));
            }
        }
        Type::both(all)
    }

    /// What a schema says without the others that it is put together of.
    fn own(&mut self, fields: &Map<String, Value>) -> Type {
        if let Some(constant) = fields.get("const") {
            return literal(constant);
        }
        if let Some(Value::Array(values)) = fields.get("enum") {
            return Type::union(values.iter().map(literal));
        }
        match fields.get("type") {
            Some(Value::String(name)) => self.of_type(name, fields),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                Type::union(names.map(|name| self.of_type(name, fields)))
            }
            _ if OBJECTS.iter().any(|key| fields.contains_key(*key)) => self.object(fields),
            _ if LISTS.iter().any(|key| fields.contains_key(*key)) => self.list(fields),
            _ => Type::Unknown,
        }
    }

    fn of_type(&mut self, name: &str, fields: &Map<String, Value>) -> Type {
        match name {
            "string" => Type::Word("string"),
            "number" | "integer" => Type::Word("number"),
            "boolean" => Type::Word("boolean"),
            "null" => Type::Word("null"),
            "array" => self.list(fields),
            "object" => self.object(fields),
            _ => Type::Unknown,
        }
    }

    fn object(&mut self, fields: &Map<String, Value>) -> Type {
        let required: HashSet<&str> = match fields.get("required") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => HashSet::new(),
        };
        let empty = Map::new();
        let properties = fields.get("properties").and_then(Value::as_object);
        let properties = properties.unwrap_or(&empty);
        let mut written: Vec<Field> = properties
            .iter()
            .map(|(name, schema)| Field {
                name: name.clone(),
                is_optional: !required.contains(name.as_str()),
                docs: docs(schema),
                value: self.value(schema, None),
            })
            .collect();
        let mut unspecified: Vec<_> = required
            .iter()
            .filter(|name| !properties.contains_key(**name))
            .collect();
        unspecified.sort_unstable();
        written.extend(unspecified.into_iter().map(|name| Field {
            name: (*name).to_owned(),
            is_optional: false,
            docs: Vec::new(),
            value: Type::Unknown,
        }));
        let others = match fields.get("additionalProperties") {
            Some(Value::Bool(false)) if !fields.contains_key("patternProperties") => None,
            Some(schema @ Value::Object(_)) if written.is_empty() => Some(self.value(schema, None)),
            // Types are open as they are, but for what is written there and then.
            None if !written.is_empty() && !fields.contains_key("patternProperties") => None,
            // One type would have to be that of the fields above, too.
            _ => Some(Type::Unknown),
        };
        Type::Object(Object {
            fields: written,
            others: others.map(Box::new),
        })
    }

    fn list(&mut self, fields: &Map<String, Value>) -> Type {
        let places = match fields.get("prefixItems") {
            Some(Value::Array(places)) => places.as_slice(),
            _ => &[],
        };
        let count = |key: &str| fields.get(key).and_then(Value::as_u64);
        let count = |key: &str| count(key).and_then(|count| usize::try_from(count).ok());
        let is_composed = ["allOf", "anyOf", "oneOf", "$ref", "if"]
            .iter()
            .any(|key| fields.contains_key(*key));
        let others = match (fields.get("items"), fields.get("unevaluatedItems")) {
            (Some(items), _) => self.value(items, None),
            (None, Some(items)) if !is_composed => self.value(items, None),
            _ => Type::Unknown,
        };
        let least = count("minItems").unwrap_or(0);
        let most = match others {
            Type::Never => places.len().min(count("maxItems").unwrap_or(usize::MAX)),
            _ => count("maxItems").unwrap_or(usize::MAX),
        };
        if least > most {
            return Type::Never;
        }
        let length = match most <= MAX_PLACES {
            true => most,
            false => places.len().max(least).min(MAX_PLACES),
        };
        let same = length.saturating_sub(places.len());
        let (length, is_closed) = match same * others.size() <= MAX_SPELLED {
            true => (length, most <= MAX_PLACES),
            false => (length - same, false),
        };
        if length == 0 && !is_closed {
            return Type::Array(Box::new(others));
        }
        let elements: Vec<_> = (0..length)
            .map(|index| match places.get(index) {
                Some(schema) => self.value(schema, None),
                None => others.clone(),
            })
            .collect();
        let rest = match (is_closed, places.get(length..)) {
            (true, _) => None,
            (false, Some([_, ..])) => Some(Type::Unknown),
            (false, _) => Some(others),
        };
        Type::Tuple(Tuple {
            optional: length - least.min(length),
            elements,
            rest: rest.map(Box::new),
            ack: None,
        })
    }

    fn reference(&mut self, reference: &str, bare: Bare<'_>) -> Type {
        let Some(pointer) = pointer_of(reference) else {
            return Type::Unknown;
        };
        if self.root.pointer(&pointer).is_none() {
            return Type::Unknown;
        }
        // A type that is nothing but itself is none.
        if bare.is_some_and(|from| self.leads_to(&pointer, from)) {
            return Type::Unknown;
        }
        if let Some(name) = self.named.get(&pointer) {
            return Type::Named(name.clone());
        }
        let last = pointer.rsplit('/').next().unwrap_or_default();
        let parts: Vec<&str> = self.owner.iter().copied().chain([last]).collect();
        let name = self.names.make(&parts);
        self.named.insert(pointer.clone(), name.clone());
        self.due.push(pointer);
        Type::Named(name)
    }

    /// Whether one schema is the other, or is put together of it, with neither an object nor a list between.
    fn leads_to(&self, from: &str, to: &str) -> bool {
        let mut seen = HashSet::new();
        let mut due = vec![from.to_owned()];
        while let Some(pointer) = due.pop() {
            if pointer == to {
                return true;
            }
            if let Some(schema) = self.root.pointer(&pointer)
                && seen.insert(pointer)
            {
                bare_references(schema, &mut due);
            }
        }
        false
    }
}

/// Keywords that are about objects, or about lists.
const OBJECTS: [&str; 3] = ["properties", "required", "additionalProperties"];
const LISTS: [&str; 4] = ["items", "prefixItems", "minItems", "maxItems"];

/// Whether a keyword has a say in what the type is.
fn shapes(key: &str) -> bool {
    let composing = ["type", "const", "enum", "allOf", "anyOf", "oneOf"];
    composing.contains(&key) || OBJECTS.contains(&key) || LISTS.contains(&key)
}

fn bare_references(schema: &Value, found: &mut Vec<String>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        found.extend(pointer_of(reference));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let parts = schema.get(key).and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            bare_references(part, found);
        }
    }
}

/// The JSON Pointer of a reference into the same schema.
fn pointer_of(reference: &str) -> Option<String> {
    let pointer = reference.strip_prefix('#')?;
    let pointer = percent_decode_str(pointer).decode_utf8().ok()?;
    (pointer.is_empty() || pointer.starts_with('/')).then(|| pointer.into_owned())
}

/// Whether it is the place of an attachment: a client has the bytes themselves there.
fn is_attachment(fields: &Map<String, Value>) -> bool {
    let placeholder = fields
        .get("properties")
        .and_then(|it| it.get("_placeholder"));
    placeholder.is_some_and(|schema| schema.get("const") == Some(&Value::Bool(true)))
}

/// The type of exactly this value.
fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Word("null"),
        Value::Bool(true) => Type::Word("true"),
        Value::Bool(false) => Type::Word("false"),
        Value::Number(number) => match is_exact(number) {
            true => Type::Literal(number.to_string()),
            false => Type::Word("number"),
        },
        Value::String(text) => Type::text(text),
        Value::Array(values) => Type::Tuple(Tuple {
            elements: values.iter().map(literal).collect(),
            ..Tuple::default()
        }),
        Value::Object(fields) => Type::Object(Object {
            fields: fields
                .iter()
                .map(|(name, value)| Field {
                    name: name.clone(),
                    is_optional: false,
                    docs: Vec::new(),
                    value: literal(value),
                })
                .collect(),
            others: None,
        }),
    }
}

fn is_exact(number: &Number) -> bool {
    let integer = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
    match integer {
        Some(integer) => integer <= MAX_EXACT,
        None => number.as_f64().is_some_and(f64::is_finite),
    }
}

/// What a schema says of its values beside their type.
pub(crate) fn docs(schema: &Value) -> Vec<String> {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut docs: Vec<String> = ["title", "description"]
        .into_iter()
        .filter_map(text)
        .collect();
    let noted = NOTED.iter().filter_map(|key| {
        let value = schema.get(*key)?;
        Some(format!("{key}: {value}"))
    });
    let noted: Vec<_> = noted.collect();
    if !noted.is_empty() {
        docs.push(noted.join(", "));
    }
    docs
}

#[cfg(test)]
mod tests;
