//! Between the types of the contract and what `js/` takes and gives.

use rquickjs::{Array, Ctx, FromJs, Result, TypedArray, Value};
use serde::Serialize;

use crate::exports::mixlab::plugin::{
    connections::Refusal, events::Outcome, filters::Verdict, webhooks::Response,
};
use crate::mixlab::plugin::types::{Message, Rejection};

/// What is unlike anything that `js/` gives.
fn unlike<T>() -> Result<T> {
    Err(rquickjs::Error::new_from_js("what js/ gave", "an answer"))
}

/// JSON text, for what is told to `js/`.
pub fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).or_else(|_| unlike())
}

pub fn bytes<'js>(ctx: &Ctx<'js>, bytes: Vec<u8>) -> Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx.clone(), bytes)
}

/// The attachments of a message; none if there are none, as mostly.
pub fn attachments<'js>(ctx: &Ctx<'js>, attachments: Vec<Vec<u8>>) -> Result<Option<Array<'js>>> {
    if attachments.is_empty() {
        return Ok(None);
    }
    let array = Array::new(ctx.clone())?;
    for (number, attachment) in attachments.into_iter().enumerate() {
        array.set(number, bytes(ctx, attachment)?)?;
    }
    Ok(Some(array))
}

/// A message, as the text of its arguments and the list of its attachments.
pub fn message<'js>(arguments: String, attachments: Option<Vec<TypedArray<'js, u8>>>) -> Message {
    let attachments = attachments.unwrap_or_default().into_iter();
    Message {
        arguments,
        attachments: attachments.map(|bytes| owned(&bytes)).collect(),
    }
}

/// The bytes of an array; none of one that was detached.
pub fn owned(bytes: &TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: the script, which could change the bytes or free them, does not run before they are copied.
    let bytes = unsafe { bytes.as_bytes() };
    bytes.map(<[u8]>::to_vec).unwrap_or_default()
}

/// What a handler or a filter answered besides a plain reply: `[kind, arguments, attachments]`.
fn kind(value: &Value<'_>) -> Result<(String, Message)> {
    let Some(array) = value.as_array() else {
        return unlike();
    };
    let arguments: Option<String> = array.get(1)?;
    let attachments = array.get(2)?;
    let message = message(arguments.unwrap_or_default(), attachments);
    Ok((array.get(0)?, message))
}

pub fn outcome(value: Value<'_>) -> Result<Outcome> {
    if value.is_undefined() {
        return Ok(Outcome::Done);
    }
    if let Some(text) = value.as_string() {
        return Ok(Outcome::Reply(message(text.to_string()?, None)));
    }
    let (kind, message) = kind(&value)?;
    match &*kind {
        "done" => Ok(Outcome::Done),
        "no-ack" => Ok(Outcome::NoAck),
        "reply" => Ok(Outcome::Reply(message)),
        _ => unlike(),
    }
}

pub fn verdict(value: Value<'_>) -> Result<Verdict> {
    let (kind, message) = kind(&value)?;
    match &*kind {
        "pass" => Ok(Verdict::Pass),
        "replace" => Ok(Verdict::Replace(message)),
        "done" => Ok(Verdict::Done),
        "no-ack" => Ok(Verdict::NoAck),
        "reply" => Ok(Verdict::Reply(message)),
        _ => unlike(),
    }
}

/// `[status, headers, body]`, the headers as JSON text.
pub fn response(value: Value<'_>) -> Result<Response> {
    let Some(array) = value.as_array() else {
        return unlike();
    };
    let headers: String = array.get(1)?;
    let body: TypedArray<'_, u8> = array.get(2)?;
    Ok(Response {
        status: array.get(0)?,
        headers: serde_json::from_str(&headers).or_else(|_| unlike())?,
        body: owned(&body),
    })
}

pub fn text(value: Value<'_>) -> Result<Option<String>> {
    Option::from_js(&value.ctx().clone(), value)
}

pub fn nothing(_: Value<'_>) -> Result<()> {
    Ok(())
}

/// Why a client is kept out: the code is the message that it sees, and the data is the whole of it. `js/`
/// has the data ready in the details of a refusal of its own, which has no code.
pub fn refusal(rejection: Rejection) -> Refusal {
    #[derive(Serialize)]
    struct Wire<'a> {
        code: &'a str,
        message: &'a str,
        temporary: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<serde_json::Value>,
    }
    if rejection.code.is_empty() {
        return Refusal {
            message: rejection.message,
            data: rejection.details,
        };
    }
    let details = rejection.details.as_deref();
    let wire = Wire {
        code: &rejection.code,
        message: &rejection.message,
        temporary: rejection.temporary,
        retry_after_ms: rejection.retry_after_ms,
        details: details.and_then(|details| serde_json::from_str(details).ok()),
    };
    Refusal {
        data: serde_json::to_string(&wire).ok(),
        message: rejection.code,
    }
}
