//! What calls have in common that run one after the other.

use serde_json::Value;

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
            Some(Value::Number(number)) => number.to_string().into(),
            Some(Value::Bool(is)) => is.to_string().into(),
            Some(_) | None => return Err(invalid("must be a text, a number, true or false")),
        };
        if key.len() > MAX_KEY_BYTES {
            return Err(invalid("is too long"));
        }
        Ok(key)
    }
}
