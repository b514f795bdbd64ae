//! JSON with attachments, as msgpack with binary data in it, and back.

use bytes::Bytes;
use rmpv::{Value, ValueRef};
use serde_json::{Map, Number, Value as Json, json};

use crate::message::MAX_NESTING;

/// What stands for an attachment in JSON.
const PLACEHOLDER: &str = "_placeholder";

/// Which attachment it stands for.
const NUMBER: &str = "num";

/// Milliseconds and nanoseconds since 1970, as msgpack's own extension.
const TIMESTAMP: i8 = -1;

/// What was msgpack.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The text, with placeholders for binary data.
    pub json: String,
    /// What these stand for.
    pub attachments: Vec<Bytes>,
}

/// Why bytes are no msgpack that is understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error(transparent)]
    Encoding(#[from] rmpv::decode::Error),
    #[error("a key is no text")]
    Key,
    #[error("more follows behind it")]
    Rest,
}

/// JSON text whose placeholders stand for attachments.
pub(crate) fn pack(json: &str, attachments: &[Bytes]) -> Vec<u8> {
    let json: Json = serde_json::from_str(json).expect("it was written just now");
    let mut packed = Vec::new();
    rmpv::encode::write_value(&mut packed, &to_value(json, attachments))
        .expect("a vector takes everything");
    packed
}

/// The inverse of [`pack`].
pub(crate) fn unpack(mut packed: &[u8]) -> Result<Unpacked, Malformed> {
    let value = rmpv::decode::read_value_ref_with_max_depth(&mut packed, MAX_NESTING)?;
    if !packed.is_empty() {
        return Err(Malformed::Rest);
    }
    let mut attachments = Vec::new();
    let json = to_json(&value, &mut attachments)?.to_string();
    Ok(Unpacked { json, attachments })
}

fn to_value(json: Json, attachments: &[Bytes]) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(it) => it.into(),
        Json::Number(it) => number(&it),
        Json::String(it) => it.into(),
        Json::Array(items) => {
            let items = items.into_iter().map(|it| to_value(it, attachments));
            Value::Array(items.collect())
        }
        Json::Object(fields) => match attachment(&fields, attachments) {
            Some(attachment) => Value::Binary(attachment.to_vec()),
            None => {
                let entry = |(key, it): (String, Json)| (key.into(), to_value(it, attachments));
                Value::Map(fields.into_iter().map(entry).collect())
            }
        },
    }
}

fn attachment<'a>(fields: &Map<String, Json>, attachments: &'a [Bytes]) -> Option<&'a Bytes> {
    let is_placeholder = fields.get(PLACEHOLDER) == Some(&Json::Bool(true));
    let number = fields.get(NUMBER).filter(|_| is_placeholder)?.as_u64()?;
    attachments.get(usize::try_from(number).ok()?)
}

fn number(number: &Number) -> Value {
    let unsigned = number.as_u64().map(Value::from);
    unsigned
        .or_else(|| number.as_i64().map(Value::from))
        .unwrap_or_else(|| number.as_f64().unwrap_or_default().into())
}

fn to_json(value: &ValueRef<'_>, attachments: &mut Vec<Bytes>) -> Result<Json, Malformed> {
    Ok(match value {
        ValueRef::Nil => Json::Null,
        ValueRef::Boolean(it) => (*it).into(),
        ValueRef::Integer(it) => match it.as_u64() {
            Some(it) => it.into(),
            None => it.as_i64().into(),
        },
        ValueRef::F32(it) => f64::from(*it).into(),
        ValueRef::F64(it) => (*it).into(),
        ValueRef::String(it) => String::from_utf8_lossy(it.as_bytes()).into(),
        ValueRef::Binary(bytes) => {
            attachments.push(Bytes::copy_from_slice(bytes));
            json!({ PLACEHOLDER: true, NUMBER: attachments.len() - 1 })
        }
        ValueRef::Array(items) => {
            let items = items.iter().map(|it| to_json(it, attachments));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        ValueRef::Map(entries) => {
            let mut fields = Map::new();
            for (key, it) in entries {
                let ValueRef::String(key) = key else {
                    return Err(Malformed::Key);
                };
                let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
                fields.insert(key, to_json(it, attachments)?);
            }
            Json::Object(fields)
        }
        ValueRef::Ext(TIMESTAMP, bytes) => timestamp(bytes),
        // What JavaScript has no value for.
        ValueRef::Ext(..) => Json::Null,
    })
}

/// A date, as JSON has it.
fn timestamp(bytes: &[u8]) -> Json {
    let (seconds, nanoseconds) = match *bytes {
        [a, b, c, d] => (u64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (both & 0x3_ffff_ffff, both >> 34)
        }
        // Before 1970, or after 2514.
        _ => return Json::Null,
    };
    let since =
        std::time::Duration::from_secs(seconds) + std::time::Duration::from_nanos(nanoseconds);
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since)
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let json = r#"{"a":[1,-2,1.5,null,true,"é",{"_placeholder":true,"num":0}],"b":{"_placeholder":true,"num":1}}"#;
        let attachments = [Bytes::from_static(b"x"), Bytes::from_static(b"yz")];
        let unpacked = unpack(&pack(json, &attachments)).unwrap();
        assert_eq!(unpacked.json, json);
        assert_eq!(unpacked.attachments, attachments);
    }

    #[test]
    fn what_is_no_msgpack_is_refused() {
        for bytes in [
            &b""[..],
            b"\x81\x01\x01",
            b"\x01\x01",
            b"\xdd\xff\xff\xff\xff",
        ] {
            assert!(unpack(bytes).is_err(), "{bytes:?}");
        }
        let deep = [&[0x91; 200][..], &[0xc0]].concat();
        assert!(unpack(&deep).is_err());
    }

    #[test]
    fn a_date_is_what_json_makes_of_it() {
        let packed = [0xd6, 0xff, 0, 0, 0, 1];
        assert_eq!(
            unpack(&packed).unwrap().json,
            "\"1970-01-01T00:00:01.000Z\""
        );
    }
}
