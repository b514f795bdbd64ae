//! `#[data]`: what it derives, and that what is written around it counts.
use mixlab_plugin::prelude::*;
use mixlab_plugin::schema::of_reply;
use mixlab_plugin::serde::Serializer;
use mixlab_plugin::serde_json::{from_str, json, to_value};

#[derive(Debug)]
#[data]
#[derive(PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Booking<T: Default> {
    #[schemars(range(min = 1, max = 12))]
    studio_hours: u8,
    #[serde(default)]
    more: T,
}

#[data]
#[serde(tag = "type")]
enum Answer {
    Free { hours: Vec<u8> },
    Taken,
}

/// Of another crate, which writes it and does no more.
struct Foreign;

impl Serialize for Foreign {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("foreign")
    }
}

#[data(Serialize)]
struct Written<'a> {
    name: &'a str,
    foreign: Foreign,
}

#[data(JsonSchema, Deserialize)]
struct Read {
    name: String,
}

#[test]
fn data_is_read_and_written_as_its_attributes_say() {
    let booking = Booking {
        studio_hours: 2,
        more: (),
    };
    assert_eq!(
        to_value(&booking).unwrap(),
        json!({ "studioHours": 2, "more": null })
    );
    assert_eq!(
        from_str::<Booking<()>>(r#"{"studioHours":2}"#).unwrap(),
        booking
    );
    assert!(from_str::<Booking<()>>(r#"{"studioHours":2,"studio_hours":2}"#).is_err());
    let free = Answer::Free { hours: vec![18] };
    assert_eq!(
        to_value(&free).unwrap(),
        json!({ "type": "Free", "hours": [18] })
    );
    assert!(matches!(from_str(r#"{"type":"Taken"}"#), Ok(Answer::Taken)));
}

#[test]
fn data_has_a_schema_with_its_bounds() {
    let schema = of_reply::<Booking<()>>().unwrap();
    let schema: Value = from_str(&schema).unwrap();
    let hours = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap();
    let hours = &hours["properties"]["studioHours"];
    assert_eq!(
        (&hours["minimum"], &hours["maximum"]),
        (&json!(1), &json!(12))
    );
}

#[test]
fn data_derives_only_what_is_named() {
    let written = Written {
        name: "a",
        foreign: Foreign,
    };
    assert_eq!(
        to_value(&written).unwrap(),
        json!({ "name": "a", "foreign": "foreign" })
    );
    let read: Read = from_str(r#"{"name":"b"}"#).unwrap();
    assert_eq!(read.name, "b");
    assert!(
        of_reply::<Read>()
            .unwrap()
            .contains(r#""required":["name"]"#)
    );
}
