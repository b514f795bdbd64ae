//! What is left out of records.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{
    line::{Bytes, Call, Given, Instance},
    shown::BYTES,
};
use crate::secrets::{is_json_web_token, is_secret};

/// What stands in the place of what is left out.
pub(crate) const REDACTED: &str = "[redacted]";

/// A path of what is left out besides, like `payload.card.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct RedactionPath {
    root: Root,
    fields: Vec<String>,
}

/// Where a path is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    /// In what a client says of itself when it connects.
    Auth,
    /// In what is sent, answered, stored and kept.
    Payload,
    /// In the configuration of a plugin.
    Config,
}

/// Leaves out what paths name, and secrets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redaction(Vec<RedactionPath>);

impl FromStr for RedactionPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.');
        let root = match parts.next() {
            Some("auth") => Root::Auth,
            Some("payload") => Root::Payload,
            Some("config") => Root::Config,
            _ => return Err("a path begins with auth., payload. or config.".to_owned()),
        };
        let fields: Vec<String> = parts.map(str::to_owned).collect();
        match fields.is_empty() || fields.iter().any(String::is_empty) {
            true => Err("a path names fields, like payload.card.*".to_owned()),
            false => Ok(Self { root, fields }),
        }
    }
}

impl TryFrom<String> for RedactionPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RedactionPath> for String {
    fn from(path: RedactionPath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for RedactionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match self.root {
            Root::Auth => "auth",
            Root::Payload => "payload",
            Root::Config => "config",
        };
        write!(f, "{root}.{}", self.fields.join("."))
    }
}

impl Redaction {
    pub(crate) fn new(paths: Vec<RedactionPath>) -> Self {
        Self(paths)
    }

    /// The paths.
    pub(super) fn paths(&self) -> Vec<RedactionPath> {
        self.0.clone()
    }

    /// Leaves it out of what is said of an instance.
    pub(super) fn instance(&self, instance: &mut Instance) {
        self.value(Root::Config, &mut instance.config);
        for answered in &mut instance.answers {
            self.payload(&mut answered.answer);
        }
    }

    /// Leaves it out of a call, and says there whether there was any.
    pub(super) fn call(&self, call: &mut Call) {
        let mut redacted = match &mut call.given {
            Given::Event(sent) | Given::Filter(sent) => {
                let mut redacted = self.raw(Root::Payload, &mut sent.arguments);
                for attachment in &mut sent.attachments {
                    redacted |= self.bytes(attachment);
                }
                redacted
            }
            Given::Connect(auth) => self.raw(Root::Auth, auth),
            Given::Disconnect(_) => false,
            Given::Timer { payload, .. } => self.raw(Root::Payload, payload),
            Given::Migrate { cursor, .. } => {
                let cursor = cursor.as_mut();
                cursor.is_some_and(|cursor| self.text(Root::Payload, cursor))
            }
            Given::Webhook {
                query,
                headers,
                body,
                ..
            } => {
                let pairs = query.iter_mut().chain(headers);
                let named = pairs.filter(|(name, _)| is_secret(name) || is_signature(name));
                let mut redacted = false;
                for (_, value) in named {
                    REDACTED.clone_into(value);
                    redacted = true;
                }
                redacted | self.bytes(body)
            }
        };
        if let Some(data) = call.connection.as_mut().and_then(|it| it.data.as_mut()) {
            redacted |= self.raw(Root::Payload, data);
        }
        for row in call.before.iter_mut().chain(&mut call.reads) {
            if let Some(value) = &mut row.value {
                redacted |= self.bytes(value);
            }
        }
        for answered in &mut call.answers {
            redacted |= self.payload(&mut answered.with);
            redacted |= self.payload(&mut answered.answer);
        }
        let came = &mut call.came;
        let values = came.effects.iter_mut().chain(&mut came.writes);
        for value in values.chain([&mut came.outcome]) {
            redacted |= self.payload(value);
        }
        call.redacted = redacted;
    }

    /// Leaves it out of something that was sent, answered, stored or kept. True if there was any.
    pub(crate) fn payload(&self, value: &mut Value) -> bool {
        self.value(Root::Payload, value)
    }

    fn value(&self, root: Root, value: &mut Value) -> bool {
        let mut redacted = false;
        self.visit(root, value, &mut redacted);
        redacted
    }

    fn raw(&self, root: Root, raw: &mut Box<RawValue>) -> bool {
        let Ok(mut value) = serde_json::from_str::<Value>(raw.get()) else {
            return false;
        };
        let redacted = self.value(root, &mut value);
        if redacted && let Ok(without) = serde_json::value::to_raw_value(&value) {
            *raw = without;
        }
        redacted
    }

    /// Bytes that are JSON, or a text.
    fn bytes(&self, bytes: &mut Bytes) -> bool {
        let Ok(text) = str::from_utf8(&bytes.0) else {
            return false;
        };
        let mut value = Value::from(text);
        let redacted = self.value(Root::Payload, &mut value);
        if redacted && let Value::String(text) = value {
            bytes.0 = text.into_bytes();
        }
        redacted
    }

    fn visit(&self, root: Root, value: &mut Value, redacted: &mut bool) {
        match value {
            Value::Object(fields) => {
                *redacted |= self.attachment(fields);
                for (name, value) in fields.iter_mut() {
                    match is_secret(name) {
                        true => *redacted |= leave_out(value),
                        false => self.visit(root, value, redacted),
                    }
                }
            }
            Value::Array(values) => {
                if is_secret_header(values) {
                    *redacted |= leave_out(&mut values[1]);
                }
                values
                    .iter_mut()
                    .for_each(|value| self.visit(root, value, redacted));
            }
            Value::String(text) => *redacted |= self.text(root, text),
            _ => return,
        }
        for path in self.0.iter().filter(|path| path.root == root) {
            *redacted |= leave_out_at(value, &path.fields);
        }
    }

    /// JSON and texts that stand as bytes: `{"$bytes": "…"}`, in base64.
    fn attachment(&self, fields: &mut Map<String, Value>) -> bool {
        let Some(Value::String(base64)) = fields.get_mut(BYTES) else {
            return false;
        };
        let mut bytes = Bytes(BASE64_STANDARD.decode(&*base64).unwrap_or_default());
        let redacted = self.bytes(&mut bytes);
        if redacted {
            *base64 = BASE64_STANDARD.encode(&bytes.0);
        }
        redacted
    }

    /// JSON in a text, and tokens.
    fn text(&self, root: Root, text: &mut String) -> bool {
        if is_json_web_token(text) {
            REDACTED.clone_into(text);
            return true;
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return leave_out_of_url(text);
        }
        if !text.starts_with(['{', '[']) {
            return false;
        }
        let Ok(mut value) = serde_json::from_str::<Value>(text) else {
            return false;
        };
        let redacted = self.value(root, &mut value);
        if redacted {
            *text = value.to_string();
        }
        redacted
    }
}

/// Parameters that are called like secrets, also behind `#`, and who asks. True if there was one.
fn leave_out_of_url(url: &mut String) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let mut redacted = false;
    let authority = match authority.rsplit_once('@') {
        Some((who, host)) if who != REDACTED => {
            redacted = true;
            format!("{REDACTED}@{host}")
        }
        _ => authority.to_owned(),
    };
    let mut without = format!("{scheme}://{authority}");
    let mut is_path = true;
    for part in rest.split_inclusive(['?', '#', '&']) {
        let pair = part.trim_end_matches(['?', '#', '&']);
        let value = pair
            .split_once('=')
            .filter(|(name, _)| !is_path && is_secret(name));
        match value {
            Some((name, value)) if value != REDACTED => {
                redacted = true;
                without += &format!("{name}={REDACTED}{}", &part[pair.len()..]);
            }
            _ => without += part,
        }
        is_path &= !part.ends_with(['?', '#']);
    }
    if redacted {
        *url = without;
    }
    redacted
}

/// True if there was something else.
fn leave_out(value: &mut Value) -> bool {
    let is_there = !value.is_null() && *value != REDACTED;
    if is_there {
        *value = REDACTED.into();
    }
    is_there
}

/// What these fields lead to, each in the one before; lists are looked into.
fn leave_out_at(value: &mut Value, fields: &[String]) -> bool {
    let Some((name, rest)) = fields.split_first() else {
        return leave_out(value);
    };
    match value {
        Value::Object(object) => {
            let mut redacted = false;
            for (_, value) in object
                .iter_mut()
                .filter(|(key, _)| name == "*" || *key == name)
            {
                redacted |= leave_out_at(value, rest);
            }
            redacted
        }
        Value::Array(values) => {
            let mut redacted = false;
            for value in values.iter_mut().filter(|value| value.is_object()) {
                redacted |= leave_out_at(value, fields);
            }
            redacted
        }
        _ => false,
    }
}

/// Whoever has the header could send what it is the header of.
fn is_signature(name: &str) -> bool {
    name.to_ascii_lowercase().contains("signature")
}

/// Headers are pairs of names and values.
fn is_secret_header(pair: &[Value]) -> bool {
    let [Value::String(name), Value::String(_)] = pair else {
        return false;
    };
    is_secret(name) || is_signature(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redacted(paths: &[&str], mut value: Value) -> Value {
        let paths = paths.iter().map(|path| path.parse().unwrap()).collect();
        Redaction::new(paths).payload(&mut value);
        value
    }

    #[test]
    fn a_path_is_found_wherever_it_stands() {
        let card = || json!({ "number": "4111", "cvc": "1" });
        let none = json!({ "number": REDACTED, "cvc": REDACTED });
        for (value, expected) in [
            (json!([{ "card": card() }]), json!([{ "card": none }])),
            (
                json!({ "order": { "card": [card()] } }),
                json!({ "order": { "card": [none] } }),
            ),
            (
                json!({ "value": json!({ "card": card() }).to_string() }),
                json!({ "value": json!({ "card": none }).to_string() }),
            ),
            (json!(["card", 1]), json!(["card", 1])),
        ] {
            assert_eq!(redacted(&["payload.card.*", "auth.x"], value), expected);
        }
        assert_eq!(
            redacted(&["config.a", "auth.a"], json!({ "a": 1 })),
            json!({ "a": 1 })
        );
    }

    #[test]
    fn secrets_are_left_out_always() {
        for name in [
            "password",
            "Token",
            "access_token",
            "X-Api-Key",
            "clientSecret",
            "newPassword",
            "csrfToken",
            "privateKey",
        ] {
            let value = redacted(&[], json!({ name: "x" }));
            assert_eq!(value, json!({ name: REDACTED }), "{name}");
        }
        for name in ["tokens_left", "key", "secretary", "author", "tokenCount"] {
            let value = json!({ name: "x" });
            assert_eq!(redacted(&[], value.clone()), value, "{name}");
        }
        let headers = json!([["set-cookie", "a=b"], ["content-type", "x"]]);
        assert_eq!(
            redacted(&[], headers),
            json!([["set-cookie", REDACTED], ["content-type", "x"]])
        );
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        assert_eq!(redacted(&[], json!([token])), json!([REDACTED]));
        assert_eq!(redacted(&[], json!("a.b.c")), json!("a.b.c"));
        assert_eq!(
            redacted(
                &[],
                json!(["POST", "https://a.example/b?x=1&access_token=s3cret"])
            ),
            json!(["POST", "https://a.example/b?x=1&access_token=[redacted]"])
        );
    }

    #[test]
    fn secrets_are_left_out_of_urls_and_of_bytes() {
        for (url, expected) in [
            ("https://a.example/b=token", "https://a.example/b=token"),
            (
                "https://a.example/b#x=1&id_token=s",
                "https://a.example/b#x=1&id_token=[redacted]",
            ),
            (
                "https://a.example?token=s#y",
                "https://a.example?token=[redacted]#y",
            ),
            (
                "https://ann:s@a.example/b@c",
                "https://[redacted]@a.example/b@c",
            ),
        ] {
            assert_eq!(redacted(&[], json!(url)), json!(expected));
            assert_eq!(redacted(&[], json!(expected)), json!(expected));
        }
        let bytes = |text: &str| json!([{ "$bytes": BASE64_STANDARD.encode(text) }]);
        assert_eq!(
            redacted(&[], bytes(r#"{"password":"s"}"#)),
            bytes(r#"{"password":"[redacted]"}"#)
        );
        assert_eq!(redacted(&[], bytes("x")), bytes("x"));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "password",
            "payload",
            "payload.",
            "payload.a..b",
            "store.x",
        ] {
            assert!(text.parse::<RedactionPath>().is_err(), "{text:?}");
        }
        let path: RedactionPath = "payload.card.*".parse().unwrap();
        assert_eq!(path.to_string(), "payload.card.*");
    }
}
