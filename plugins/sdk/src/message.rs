//! Payloads as they travel: JSON text and attachments.
use serde::de::{Deserialize, Error as _};
use serde::{Deserializer, Serialize, Serializer};

use crate::rejection::not_json;
use crate::{Error, Message, Rejection};

impl Message {
    /// One argument.
    pub fn of(argument: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Self::of_args(&(argument,))
    }

    /// The arguments, as a tuple, a slice or anything else that serialises as an array.
    pub fn of_args(arguments: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Ok(Self {
            arguments: serde_json::to_string(arguments).map_err(not_json)?,
            attachments: Vec::new(),
        })
    }

    /// Adds an attachment; its number stands in the arguments as a [`Placeholder`].
    #[must_use]
    pub fn attach(mut self, bytes: Vec<u8>) -> Self {
        self.attachments.push(bytes);
        self
    }

    /// The argument array as `T`, which may borrow from the text. A tuple has the length of the
    /// array.
    ///
    /// ```
    /// use mixlab_plugin::prelude::*;
    ///
    /// let message = Message::of_args(&("studio 7", 3))?;
    /// let (studio, hours): (&str, u8) = message.parse()?;
    /// assert_eq!((studio, hours), ("studio 7", 3));
    /// # Ok::<(), Rejection>(())
    /// ```
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Rejection> {
        serde_json::from_str(&self.arguments).map_err(|error| invalid_arguments(&error))
    }
}

/// What a client is told whose payload fits the schema but not the type. The text says where.
#[cold]
pub(crate) fn invalid_arguments(error: &serde_json::Error) -> Rejection {
    Rejection::invalid_payload(format!("arguments: {error}"))
}

/// What is said of an ack that is not of the type that was asked for.
#[cold]
pub(crate) fn not_an_answer(error: &serde_json::Error) -> String {
    format!("ack: {error}")
}

/// What a client is told whose auth object is not what a connection hook takes.
#[cold]
pub(crate) fn invalid_auth(error: &serde_json::Error) -> Rejection {
    Rejection::invalid_payload(format!("auth: {error}"))
}

/// The place of a binary attachment in a payload: `{"_placeholder":true,"num":N}`.
///
/// ```
/// use mixlab_plugin::{Message, Placeholder};
///
/// let message = Message::of_args(&("cover.png", Placeholder(0)))?.attach(vec![0x89, b'P']);
/// assert_eq!(message.arguments, r#"["cover.png",{"_placeholder":true,"num":0}]"#);
/// # Ok::<(), mixlab_plugin::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placeholder(
    /// The number of the attachment, from 0.
    pub u32,
);

/// The form on the wire.
#[derive(serde::Serialize, serde::Deserialize)]
struct Wire {
    #[serde(rename = "_placeholder")]
    placeholder: bool,
    num: u32,
}

impl Serialize for Placeholder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire {
            placeholder: true,
            num: self.0,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Placeholder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        if !wire.placeholder {
            return Err(D::Error::custom("expected a binary attachment"));
        }
        Ok(Self(wire.num))
    }
}

impl schemars::JsonSchema for Placeholder {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Binary".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "properties": {
                "_placeholder": { "const": true },
                "num": { "type": "integer", "minimum": 0 }
            },
            "required": ["_placeholder", "num"]
        })
    }
}
