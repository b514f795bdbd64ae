//! Arguments as schemas look at them: texts stay where they are, in the arguments' JSON.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    slice,
};

use ahash::RandomState;
use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

/// A JSON value that borrows its texts.
#[derive(Debug)]
pub enum Document<'a> {
    Null,
    Boolean(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Array(Vec<Self>),
    /// In the order of the names, each of which is there once.
    Object(Vec<Field<'a>>),
}

type Field<'a> = (Cow<'a, str>, Document<'a>);

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Document<'de>, E> {
        Ok(Document::Null)
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Document<'de>, E> {
        Ok(Document::Boolean(boolean))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Document<'de>, E> {
        Ok(Document::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Document<'de>, E> {
        Ok(Document::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Document<'de>, E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Document::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Document<'de>, E> {
        Ok(Document::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Document<'de>, E> {
        Ok(Document::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Document<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = array.next_element()? {
            items.push(item);
        }
        Ok(Document::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Document<'de>, A::Error> {
        let mut fields: Vec<Field<'de>> = Vec::new();
        while let Some((Name(name), value)) = object.next_entry()? {
            fields.push((name, value));
        }
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Of fields of one name the last counts, as it does for plugins.
        fields.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        Ok(Document::Object(fields))
    }
}

/// The name of a field.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor).map(Self)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Has validators look at [`Document`]s.
#[derive(Debug)]
pub enum Documents {}

impl Json for Documents {
    type Node<'a> = &'a Document<'a>;
    type PreparedKey = String;
    type StringBuffer = ();

    // A look-up compares some names, like that of a tree.
    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(_: &mut (), text: &str, f: impl FnOnce(Self::Node<'_>) -> T) -> T {
        f(&Document::Text(Cow::Borrowed(text)))
    }
}

impl<'a> Node<'a, Documents> for &'a Document<'a> {
    type Object = &'a [Field<'a>];
    type Array = &'a [Document<'a>];
    type Number = &'a Number;

    fn as_object(&self) -> Option<&'a [Field<'a>]> {
        match self {
            Document::Object(fields) => Some(fields),
            _ => None,
        }
    }

    fn as_array(&self) -> Option<&'a [Document<'a>]> {
        match self {
            Document::Array(items) => Some(items),
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            Document::Text(text) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }

    fn as_number(&self) -> Option<&'a Number> {
        match self {
            Document::Number(number) => Some(number),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Document::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Document::Null)
    }

    fn json_type(&self) -> JsonType {
        match self {
            Document::Null => JsonType::Null,
            Document::Boolean(_) => JsonType::Boolean,
            Document::Number(_) => JsonType::Number,
            Document::Text(_) => JsonType::String,
            Document::Array(_) => JsonType::Array,
            Document::Object(_) => JsonType::Object,
        }
    }

    fn string_length_within(&self, min: u64, max: u64) -> Option<bool> {
        let Document::Text(text) = self else {
            return None;
        };
        // A character has one to four bytes: mostly that is enough to know.
        let most = text.len() as u64;
        let least = most.div_ceil(4);
        if min <= least && most <= max {
            return Some(true);
        }
        Some((min..=max).contains(&(text.chars().count() as u64)))
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match (self, expected) {
            (Document::Null, Value::Null) => true,
            (Document::Boolean(one), Value::Bool(other)) => one == other,
            (Document::Number(one), Value::Number(other)) => are_equal(one, other),
            (Document::Text(one), Value::String(other)) => one == other,
            (Document::Array(one), Value::Array(other)) => {
                let mut pairs = one.iter().zip(other);
                one.len() == other.len() && pairs.all(|(one, other)| one.equals_value(other))
            }
            (Document::Object(one), Value::Object(other)) => {
                let equals = |(name, field): &Field<'_>| {
                    let other = other.get(&**name);
                    other.is_some_and(|other| field.equals_value(other))
                };
                one.len() == other.len() && one.iter().all(equals)
            }
            _ => false,
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(value(self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref(*self).addr()))
    }
}

/// Equal as JSON Schema has it: `1` is `1.0`.
impl PartialEq for Document<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(one), Self::Boolean(other)) => one == other,
            (Self::Number(one), Self::Number(other)) => are_equal(one, other),
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::Array(one), Self::Array(other)) => one == other,
            (Self::Object(one), Self::Object(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Document<'_> {}

/// Documents that differ in what is nested how differ here, too: nobody can write many that fall
/// together.
impl Hash for Document<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Null => {}
            Self::Boolean(boolean) => boolean.hash(state),
            // As the nearest number that all kinds of them have. Zero has two signs there.
            Self::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                (number + 0.0).to_bits().hash(state);
            }
            Self::Text(text) => text.hash(state),
            Self::Array(items) => items.hash(state),
            Self::Object(fields) => fields.hash(state),
        }
    }
}

/// Whether two numbers are one, whatever they are written like.
fn are_equal(one: &Number, other: &Number) -> bool {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.as_f64() == other.as_f64(),
        (Some(whole), None) => is_whole(other, whole),
        (None, Some(whole)) => is_whole(one, whole),
    }
}

/// Whether a number with a fraction is this whole one.
fn is_whole(number: &Number, whole: i128) -> bool {
    let number = number.as_f64().filter(|number| number.fract() == 0.0);
    // The cast is exact: no whole number of JSON is out of its range.
    number.is_some_and(|number| number as i128 == whole)
}

/// A copy, for errors that show it.
fn value(document: &Document<'_>) -> Value {
    match document {
        Document::Null => Value::Null,
        Document::Boolean(boolean) => (*boolean).into(),
        Document::Number(number) => number.clone().into(),
        Document::Text(text) => (&**text).into(),
        Document::Array(items) => items.iter().map(value).collect(),
        Document::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, field)| (name.to_string(), value(field)))
                .collect()
        }
    }
}

impl<'a> Object<'a, Documents> for &'a [Field<'a>] {
    type Node = &'a Document<'a>;
    type MemberName = &'a str;
    type MembersIter = Fields<'a>;

    fn len(&self) -> usize {
        <[Field<'_>]>::len(self)
    }

    fn get(&self, key: &String) -> Option<&'a Document<'a>> {
        let place = self.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(&self[place].1)
    }

    fn members(&self) -> Fields<'a> {
        Fields(self.iter())
    }
}

/// Goes through the fields of an object.
#[derive(Debug)]
pub struct Fields<'a>(slice::Iter<'a, Field<'a>>);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a Document<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (&**name, value))
    }
}

impl<'a> Array<'a, Documents> for &'a [Document<'a>] {
    type Node = &'a Document<'a>;
    type ElementsIter = slice::Iter<'a, Document<'a>>;

    fn len(&self) -> usize {
        <[Document<'_>]>::len(self)
    }

    fn elements(&self) -> slice::Iter<'a, Document<'a>> {
        self.iter()
    }

    fn is_unique(&self) -> bool {
        let mut seen = HashSet::with_capacity_and_hasher(<[_]>::len(self), RandomState::new());
        self.iter().all(|item| seen.insert(item))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_the_value_that_its_text_says() {
        for text in [
            r#"[null,true,-1,18446744073709551615,1.5e3,"a","\"\u00e9\n"]"#,
            r#"{"b":{"a":[{}],"":0},"a\"":[[]]}"#,
            r#"{"a":1,"b":2,"a":{"a":3},"b":4,"a":5}"#,
        ] {
            let document: Document<'_> = serde_json::from_str(text).unwrap();
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(value(&document), expected, "{text}");
        }
        for text in ["[1e999]", "[1,]", "{", r#"["\ud800"]"#] {
            let refusal = serde_json::from_str::<Document<'_>>(text).unwrap_err();
            let expected = serde_json::from_str::<Value>(text).unwrap_err();
            assert_eq!(refusal.to_string(), expected.to_string(), "{text}");
        }
    }

    #[test]
    fn schemas_say_of_a_document_what_they_say_of_a_value() {
        let names: String = (0..100).map(|n| format!(r#""k{n}":{n},"#)).collect();
        let documents = [
            "null".to_owned(),
            "[]".to_owned(),
            "[1,1.0,\"a\"]".to_owned(),
            r#"["a","ab","éé",{"a":"x","b":[1,2]}]"#.to_owned(),
            r#"[[[1]],[[1],[]],[[],1],[1,[]],[]]"#.to_owned(),
            r#"[9007199254740993,9007199254740992.0,-0.0,1e300]"#.to_owned(),
            r#"[{"a":1,"b":2},{"b":2.0,"a":1}]"#.to_owned(),
            r#"[0,-0.0]"#.to_owned(),
            r#"[18446744073709551615,18446744073709551616.0]"#.to_owned(),
            r#"{"a":"x","b":[1,2],"c":null,"a":7}"#.to_owned(),
            format!(r#"{{{names}"a":true}}"#),
        ];
        for schema in [
            json!({"type": ["array", "null"], "uniqueItems": true}),
            json!({"required": ["a", "k7"], "properties": {"a": {"const": true}, "k7": {"minimum": 7}}}),
            json!({"additionalProperties": false, "properties": {"a": {}, "b": {}, "c": {}}}),
            json!({"propertyNames": {"maxLength": 1}, "maxProperties": 3}),
            json!({"uniqueItems": true}),
            json!({"items": {"enum": [9007199254740993_i64, 0, 1e300, {"b": 2, "a": 1.0}, 18446744073709551615_u64]}}),
            json!({"items": {"const": [[1], []]}}),
            json!({"items": {"enum": [1, "a", "ab", "éé", {"a": "x", "b": [1, 2.0]}]}}),
            json!({"items": {"anyOf": [{"minLength": 2, "maxLength": 2}, {"type": "integer"}]}}),
            json!({"properties": {"a": {"pattern": "^x$"}, "b": {"items": {"multipleOf": 2}}}}),
        ] {
            let of_documents = jsonschema::options_for::<Documents>()
                .build(&schema)
                .unwrap();
            let of_values = jsonschema::validator_for(&schema).unwrap();
            for text in &documents {
                let document: Document<'_> = serde_json::from_str(text).unwrap();
                let value: Value = serde_json::from_str(text).unwrap();
                let said = of_documents.validate(&document);
                let expected = of_values.validate(&value);
                let said =
                    said.map_err(|error| (error.instance_path().to_string(), error.to_string()));
                let expected = expected
                    .map_err(|error| (error.instance_path().to_string(), error.to_string()));
                assert_eq!(said, expected, "{schema} of {text}");
            }
        }
    }
}
