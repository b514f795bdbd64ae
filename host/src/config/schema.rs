//! The JSON Schema of `mixlab.toml`, for editors: the form of what is taken, by the very types that read it. What each key
//! means, with an example, is of the shipped `mixlab.toml`, as the reference of the documents is.

use std::borrow::Cow;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::file::{ConfigFile, Table};
use super::locate::Document;
use super::{
    Access, AffinityCookie, AllowedTransports, Compression, CookieName, Durability, Listen,
    Network, Origin, Parser, RedisUrl, Secret, ServerAddress, TokenHeader,
};
use crate::grant::{Grants, NAMES};
use crate::units::{Rate, Size};

/// What explains every key.
const SHIPPED: &str = include_str!("../../../mixlab.toml");

/// A time with a unit, one or several: `1m 30s`.
const DURATION: &str = r"([0-9][0-9.]*\s*[A-Za-zµ]+\s*)+";

/// A number of bytes with a unit.
const SIZE: &str = r"^\s*[0-9.]+\s*([KkMmGgTtPpEe][Ii]?)?[Bb]?\s*$";

/// The name of a header or a cookie.
const TOKEN: &str = r"^[A-Za-z0-9!#$%&'*+.^_`|~\-]{1,256}$";

/// What has to be there, which `resolve` looks for.
const REQUIRED: [(&str, &[&str]); 4] = [
    ("PluginFile", &["name", "path"]),
    ("KeyFile", &["name", "rights"]),
    ("FormerKeyFile", &["until"]),
    ("CertificateFile", &["certificate", "key"]),
];

/// The schema, of draft 7, which editors know best.
pub(crate) fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<ConfigFile>().to_value();
    tidy(&mut schema);
    schema["title"] = "mixlab.toml".into();
    for (table, keys) in REQUIRED {
        schema["definitions"][table]["required"] = json!(keys);
    }
    for Explained {
        table,
        key,
        words,
        example,
    } in explained()
    {
        let steps = table.iter().chain(&key).map(String::as_str);
        let Some(place) = place(&schema, steps) else {
            continue;
        };
        let described = schema.pointer_mut(&place).expect("it has been found");
        described["description"] = words.into();
        if let Some(example) = example {
            described["examples"] = json!([example]);
        }
    }
    schema
}

/// Takes out what TOML does not have or the schema does not say: nothing is null, defaults stand in the words, and
/// Rust's own form of a time is no text.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(elements) => elements.iter_mut().for_each(tidy),
        Value::Object(object) => {
            object.remove("default");
            // A key may be called so, and is no text then.
            if object.get("format").is_some_and(Value::is_string) {
                object.remove("format");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [kind] = types.as_slice() {
                    let kind = kind.clone();
                    object.insert("type".to_owned(), kind);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type") != Some(&"null".into()));
                if let [only] = choices.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    merge(object, only);
                }
            }
            if let Some(Value::Object(definitions)) = object.get_mut("definitions") {
                definitions.remove("Duration");
            }
            if object
                .get("$ref")
                .is_some_and(|to| to == "#/definitions/Duration")
            {
                object.remove("$ref");
                merge(object, text(&format!(r"^\s*{DURATION}$")));
            }
            object.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

fn merge(object: &mut Map<String, Value>, other: Value) {
    let Value::Object(other) = other else {
        return;
    };
    object.extend(other);
}

fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// Where the schema of a key is, as a JSON Pointer.
fn place<'a>(schema: &Value, steps: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut at = String::new();
    for step in steps {
        at = resolved(schema, at)?;
        let within = format!("{at}/properties/{step}");
        at = match schema.pointer(&within) {
            Some(_) => within,
            None => format!("{at}/additionalProperties"),
        };
    }
    schema.pointer(&at).map(|_| at)
}

/// The place of what is meant: behind references, and of lists the element.
fn resolved(schema: &Value, mut at: String) -> Option<String> {
    loop {
        let here = schema.pointer(&at)?;
        let reference = here.get("$ref").or_else(|| here.pointer("/allOf/0/$ref"));
        match reference.and_then(Value::as_str) {
            Some(to) => at = to.trim_start_matches('#').to_owned(),
            None if here.get("items").is_some() => at += "/items",
            None => return Some(at),
        }
    }
}

/// What the shipped file says of a key, or of a table.
struct Explained {
    table: Vec<String>,
    key: Option<String>,
    words: String,
    example: Option<Value>,
}

fn explained() -> Vec<Explained> {
    let mut all = Vec::new();
    let mut table = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    for line in SHIPPED.lines() {
        let written = line.strip_prefix('#').unwrap_or(line);
        if let Some(comment) = line.strip_prefix("# ") {
            words.push(comment);
            continue;
        }
        let is_key = written.starts_with(|first: char| first.is_ascii_lowercase());
        let key = written.split_once(" = ").filter(|_| is_key);
        if written.starts_with('[') {
            table = name(written);
        }
        if (key.is_some() || written.starts_with('[')) && !words.is_empty() {
            let read = |(_, value): (&str, &str)| {
                let document = Document::parse(Path::new("mixlab.toml"), &format!("it = {value}"));
                serde_json::to_value(document.ok()?.values().get("it")?).ok()
            };
            all.push(Explained {
                table: table.clone(),
                key: key.map(|(key, _)| key.to_owned()),
                words: words.join("\n"),
                example: key.and_then(read),
            });
        }
        words.clear();
    }
    all
}

/// The path of a table, `[[plugins]]` or `[plugins.webhook]`.
fn name(heading: &str) -> Vec<String> {
    let name = heading.trim_matches(['[', ']']);
    name.split('.').map(str::to_owned).collect()
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// What is written as a value of this form, and read by rules of its own.
macro_rules! written {
    ($($type:ty = $schema:expr;)+) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                Schema::try_from($schema).expect("it is an object")
            }
        }
    )+};
}

/// By which a token may be signed.
pub(super) struct AlgorithmName;

written! {
    Access = json!({ "anyOf": [
        { "enum": ["anyone", "authenticated"] },
        { "type": "array", "items": { "type": "string" }, "minItems": 1 },
    ]});
    AffinityCookie = json!({ "anyOf": [
        text(TOKEN),
        {
            "type": "object",
            "properties": {
                "name": text(TOKEN),
                "max_age": text(&format!(r"^\s*{DURATION}$")),
                "domain": { "type": "string" },
                "path": { "type": "string" },
                "http_only": { "type": "boolean" },
                "secure": { "type": "boolean" },
                "same_site": { "enum": ["strict", "lax", "none"] },
            },
            "required": ["name"],
            "additionalProperties": false,
        },
    ]});
    AllowedTransports = json!({
        "type": "array",
        "items": { "enum": ["polling", "websocket"] },
        "minItems": 1,
    });
    AlgorithmName = json!({ "enum": [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512",
    ]});
    Compression = json!({ "anyOf": [
        { "type": "boolean" },
        { "type": "integer", "minimum": 0, "maximum": 1_u64 << 40 },
        text(SIZE),
    ]});
    CookieName = text(TOKEN);
    Durability = json!({ "anyOf": [
        { "enum": ["commit", "memory"] },
        text(&format!(r"^interval:\s*{DURATION}$")),
    ]});
    Grants = json!({ "type": "array", "items": text(&format!("^({})(:.+)?$", NAMES.join("|"))) });
    Listen = text("^.+:[0-9]+$");
    Network = text("^[0-9A-Fa-f:.]+(/[0-9]+)?$");
    Origin = text(r"^[A-Za-z][A-Za-z0-9+.\-]*://[^/?#*@]+$");
    Parser = json!({ "enum": ["json", "msgpack"] });
    Rate = text(&format!(r"^\s*\+?[0-9]+\s*/\s*{DURATION}$"));
    RedisUrl = text("^[a-z+]+:.+$");
    Secret = json!({ "type": "string" });
    TokenHeader = text(TOKEN);
    ServerAddress = text("^[Hh][Tt][Tt][Pp][Ss]?://[^@]+$");
    Size = json!({ "anyOf": [
        { "type": "integer", "minimum": 0, "maximum": 1_u64 << 40 },
        text(SIZE),
    ]});
}
