//! JSON with attachments, as msgpack with binary data in it, and back. Both ways go over the bytes once or twice and make no
//! tree of them, which would take a hundred times as much memory as what a client has sent.

mod pack;
mod unpack;

use bytes::Bytes;

pub(crate) use {pack::pack, unpack::unpack};

/// What stands for an attachment in JSON: `{"_placeholder":true,"num":0}`.
const PLACEHOLDER: &str = "_placeholder";

/// Which attachment it stands for.
const NUMBER: &str = "num";

/// What was msgpack.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The text, with placeholders for binary data.
    pub json: String,
    /// What these stand for.
    pub attachments: Vec<Bytes>,
}

/// Why bytes are no msgpack that is understood.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it ends too early")]
    End,
    #[error("it has a byte that stands for nothing")]
    Reserved,
    #[error("a key is no text")]
    Key,
    #[error("it has more than {0} attachments")]
    Attachments(usize),
    #[error("more follows behind it")]
    Rest,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let json = r#"{"a":[1,-2,1.5,null,true,"é",{"_placeholder":true,"num":0}],"b":{"_placeholder":true,"num":1}}"#;
        let attachments = [Bytes::from_static(b"x"), Bytes::from_static(b"yz")];
        let unpacked = unpack(&pack(json, &attachments), 2).unwrap();
        assert_eq!(unpacked.json, json);
        assert_eq!(unpacked.attachments, attachments);
    }

    /// Any JSON, with some white space, and attachments where there are placeholders.
    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..20)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_comes_back(json in any_json(), is_pretty in any::<bool>()) {
            let text = match is_pretty {
                true => serde_json::to_string_pretty(&json).unwrap(),
                false => json.to_string(),
            };
            let unpacked = unpack(&pack(&text, &[]), 0).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&unpacked.json).unwrap(), json);
        }

        #[test]
        fn any_bytes_are_json_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Unpacked { json, attachments }) = unpack(&bytes, 3) {
                prop_assert!(attachments.len() <= 3);
                prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&json).is_ok(), "{}", json);
            }
        }

        #[test]
        fn any_text_is_packed(text in "[\\[\\]{}:,\"\\\\a0-9.eE+ -]{0,40}") {
            pack(&text, &[Bytes::new()]);
        }
    }
}
