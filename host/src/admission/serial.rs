//! What calls have in common that run one after the other.

use serde_json::{Number, Value};

use crate::{
    error::WireError,
    guest::{Message, SerialKey},
};

/// Longer keys are refused.
const MAX_KEY_BYTES: usize = 256;

/// Where the key of a call comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SerialBy {
    /// From a JSON Pointer into the arguments.
    Pointer(String),
    /// From the connection's namespace.
    Namespace,
    /// From the contract.
    Constant(String),
}

impl SerialBy {
    /// As a contract says.
    pub fn new(key: SerialKey) -> Result<Self, String> {
        match key {
            SerialKey::Pointer(pointer) if !pointer.starts_with('/') => Err(format!(
                "serial-by {pointer:?} is no JSON Pointer into the arguments, like \"/0/room\""
            )),
            SerialKey::Pointer(text) | SerialKey::Constant(text) if text.len() > MAX_KEY_BYTES => {
                Err(format!("serial-by has more than {MAX_KEY_BYTES} bytes"))
            }
            SerialKey::Pointer(pointer) => Ok(Self::Pointer(pointer)),
            SerialKey::Namespace => Ok(Self::Namespace),
            SerialKey::Constant(text) => Ok(Self::Constant(text)),
        }
    }

    /// The key of a call with this message, from a connection to this namespace.
    pub fn key(&self, message: &Message, namespace: &str) -> Result<Box<str>, WireError> {
        let pointer = match self {
            Self::Namespace => return Ok(namespace.into()),
            Self::Constant(text) => return Ok(text.as_str().into()),
            Self::Pointer(pointer) => pointer,
        };
        let invalid = |what: &str| WireError::new("invalid_payload", format!("{pointer}: {what}"));
        let arguments: Value = serde_json::from_str(&message.arguments)
            .map_err(|_| invalid("the arguments cannot be read"))?;
        let key: Box<str> = match arguments.pointer(pointer) {
            Some(Value::String(text)) => text.as_str().into(),
            Some(Value::Number(number)) => digits(number).into(),
            Some(Value::Bool(is)) => is.to_string().into(),
            Some(_) | None => return Err(invalid("must be a text, a number, true or false")),
        };
        if key.len() > MAX_KEY_BYTES {
            return Err(invalid("is too long"));
        }
        Ok(key)
    }
}

/// A number as text, the same for all ways to write it: clients write 1 as `1`, `1.0` or `1e0`.
fn digits(number: &Number) -> String {
    /// Up to here, each whole number has a floating-point number of its own.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    let exact = |number: &f64| number.fract() == 0.0 && number.abs() <= MAX_EXACT;
    match number.as_f64().filter(exact) {
        Some(whole) => format!("{}", whole as i64),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Message;

    fn key(arguments: &str) -> Option<String> {
        let message = Message {
            arguments: arguments.to_owned(),
            attachments: Vec::new(),
        };
        let key = SerialBy::Pointer("/0/room".to_owned()).key(&message, "/");
        key.ok().map(String::from)
    }

    #[test]
    fn what_is_the_same_to_clients_is_the_same_key() {
        for (value, expected) in [
            ("1", Some("1")),
            ("1.0", Some("1")),
            ("1e0", Some("1")),
            ("-0.0", Some("0")),
            ("1.5", Some("1.5")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("\"1\"", Some("1")),
            ("true", Some("true")),
            ("null", None),
            ("{}", None),
            ("[]", None),
        ] {
            let found = key(&format!(r#"[{{"room":{value}}}]"#));
            assert_eq!(found.as_deref(), expected, "{value}");
        }
        assert_eq!(key("[{}]"), None);
        assert_eq!(key("[]"), None);
        let long = |bytes| key(&format!(r#"[{{"room":"{}"}}]"#, "x".repeat(bytes)));
        assert!(long(MAX_KEY_BYTES).is_some() && long(MAX_KEY_BYTES + 1).is_none());
    }
}
