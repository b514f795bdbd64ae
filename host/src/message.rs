//! What travels with an event or an ack: the JSON text of an argument array, and attachments.
//!
//! Text is checked once, here, and then passed on as it came: numbers keep every digit and
//! nothing is parsed twice.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserializer as _, Serialize,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::guest;

/// How deep arrays and objects may be nested, the argument array included. It is as deep as
/// `serde_json` reads, here and in plugins: what is deeper would only fail later.
pub(crate) const MAX_NESTING: usize = 127;

/// What stands around what is pushed to clients: the arguments of an event, and the object that it is in there.
pub(crate) const AROUND_PUSHED: usize = 2;

/// What stands around what plugins say of those who are present in a room, where clients are told of all.
pub(crate) const AROUND_PRESENT: usize = 4;

/// The checked JSON text of an argument array, e.g. `[{"id":7},"x"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments(String);

/// Arguments and the binary attachments that their placeholders stand for.
#[derive(Debug, Clone)]
pub struct Message {
    /// The argument array.
    pub arguments: Arguments,
    /// Attachments by the `num` of their placeholders.
    pub attachments: Vec<Bytes>,
}

/// A message that a client could not read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMessage {
    /// The arguments are no array.
    #[error(transparent)]
    Arguments(#[from] InvalidArguments),
    /// Placeholders and attachments do not belong together. Clients close the connection over it.
    #[error("the placeholders in the arguments do not fit the {0} attachments")]
    Placeholders(usize),
    /// More than the configuration allows: stock clients close the connection over it.
    #[error("it has {found} attachments, and there may be {most}")]
    TooManyAttachments {
        /// How many it has.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}

/// The text is not the JSON of an array that anybody should have to read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidArguments {
    /// It is something else.
    #[error("not a JSON array of arguments: {0}")]
    Json(#[from] serde_json::Error),
    /// It is nested too deeply.
    #[error("nested deeper than {0} levels")]
    Nesting(usize),
    /// It holds half a character.
    #[error("not good JSON: a text in it has half a surrogate pair, which is no character")]
    Surrogate,
}

impl Arguments {
    /// No arguments: `[]`.
    pub fn none() -> Self {
        Self("[]".to_owned())
    }

    /// Checks that `text` is exactly one JSON array.
    pub fn parse(text: String) -> Result<Self, InvalidArguments> {
        let mut json = serde_json::Deserializer::from_str(&text);
        json.deserialize_seq(AnyArray)?;
        json.end()?;
        check_readable(&text)?;
        let trimmed = text.trim_ascii();
        if trimmed.len() == text.len() {
            return Ok(Self(text));
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// Of text that was [`Arguments`] before.
    pub(crate) fn known(text: String) -> Self {
        Self(text)
    }

    /// From values whose serialisation cannot fail: no map with keys other than strings.
    pub(crate) fn from_serialized<T: Serialize + ?Sized>(values: &[&T]) -> Self {
        Self(serde_json::to_string(values).expect("the caller's values always serialise"))
    }

    /// The JSON text, brackets included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON text, brackets included.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Message {
    /// A message with attachments, and placeholders for none but them.
    pub fn new(arguments: Arguments, attachments: Vec<Bytes>) -> Result<Self, InvalidMessage> {
        if !attachments.is_empty() {
            let value: serde_json::Value =
                serde_json::from_str(arguments.as_str()).map_err(InvalidArguments::from)?;
            if !placeholders_fit(&value, attachments.len()) {
                return Err(InvalidMessage::Placeholders(attachments.len()));
            }
        }
        Ok(Self {
            arguments,
            attachments,
        })
    }

    /// A message without attachments.
    pub fn text(arguments: Arguments) -> Self {
        Self {
            arguments,
            attachments: Vec::new(),
        }
    }

    /// A message without anything.
    pub fn none() -> Self {
        Self::text(Arguments::none())
    }

    /// The size that limits count: JSON and attachments, in bytes.
    pub fn size(&self) -> usize {
        self.arguments.0.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

impl From<Message> for guest::Message {
    fn from(message: Message) -> Self {
        Self {
            arguments: message.arguments.into_string(),
            attachments: message.attachments.into_iter().map(Vec::from).collect(),
        }
    }
}

/// Splits the array of an EVENT packet, `["name",...]`, into the name and the argument array.
pub(crate) fn split_event(packet: &str) -> Result<(Cow<'_, str>, Arguments), InvalidArguments> {
    let mut json = serde_json::Deserializer::from_str(packet);
    let split = json.deserialize_seq(SplitVisitor { packet });
    if split.is_err() && has_lone_surrogate(packet) {
        return Err(InvalidArguments::Surrogate);
    }
    let Split { event, arguments } = split?;
    json.end()?;
    check_readable(packet)?;
    Ok((event, arguments))
}

/// Checks what JSON's parser does not of a valid text that it skips.
pub(crate) fn check_readable(json: &str) -> Result<(), InvalidArguments> {
    check_inside(json, 0)
}

/// The same of one that will stand inside so many arrays and objects, with which somebody has to read it.
pub(crate) fn check_inside(json: &str, around: usize) -> Result<(), InvalidArguments> {
    check_depth(json, MAX_NESTING - around)?;
    match has_lone_surrogate(json) {
        true => Err(InvalidArguments::Surrogate),
        false => Ok(()),
    }
}

/// Checks how deep valid JSON is nested. Its parser does not: it skips what nobody looks at
/// without recursion, however deep that is.
pub(crate) fn check_nesting(json: &str) -> Result<(), InvalidArguments> {
    check_depth(json, MAX_NESTING)
}

fn check_depth(json: &str, most: usize) -> Result<(), InvalidArguments> {
    let json = json.as_bytes();
    // Each level takes two brackets: hardly any text has so many that it must be looked at.
    let opens = |byte: &&u8| matches!(byte, b'[' | b'{');
    if json.len() <= 2 * most || json.iter().filter(opens).count() <= most {
        return Ok(());
    }
    let (mut depth, mut in_string) = (0_usize, false);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                bytes.next();
            }
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > most {
            return Err(InvalidArguments::Nesting(most));
        }
    }
    Ok(())
}

/// Appends the array of an EVENT packet, the inverse of [`split_event`], with `last` as one more
/// argument.
pub(crate) fn push_event(
    out: &mut Vec<u8>,
    event: &str,
    arguments: &Arguments,
    last: Option<&str>,
) {
    let inner = arguments.0[1..arguments.0.len() - 1].trim_ascii();
    out.push(b'[');
    push_json_string(out, event);
    if !inner.is_empty() {
        out.push(b',');
        out.extend_from_slice(inner.as_bytes());
    }
    if let Some(last) = last {
        out.push(b',');
        push_json_string(out, last);
    }
    out.push(b']');
}

fn push_json_string(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a text is written to a vector");
    }
}

/// Whether every placeholder stands for one of so many attachments.
fn placeholders_fit(value: &serde_json::Value, attachments: usize) -> bool {
    match value {
        serde_json::Value::Array(items) => {
            items.iter().all(|item| placeholders_fit(item, attachments))
        }
        serde_json::Value::Object(fields) if fields.get("_placeholder") == Some(&true.into()) => {
            let number = fields.get("num").and_then(serde_json::Value::as_u64);
            number.is_some_and(|number| number < attachments as u64)
        }
        serde_json::Value::Object(fields) => fields
            .values()
            .all(|field| placeholders_fit(field, attachments)),
        _ => true,
    }
}

struct Split<'a> {
    event: Cow<'a, str>,
    arguments: Arguments,
}

struct SplitVisitor<'a> {
    packet: &'a str,
}

impl<'de> Visitor<'de> for SplitVisitor<'de> {
    type Value = Split<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array that begins with the event's name")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let name: &RawValue = seq
            .next_element()?
            .ok_or_else(|| A::Error::custom("the event's name is missing"))?;
        let event = event_name(name.get()).map_err(A::Error::custom)?;
        let mut span: Option<(usize, usize)> = None;
        while let Some(argument) = seq.next_element::<&RawValue>()? {
            // The element is a slice of the packet: its address tells where it stands.
            let start = argument.get().as_ptr().addr() - self.packet.as_ptr().addr();
            let end = start + argument.get().len();
            span = Some((span.map_or(start, |(first, _)| first), end));
        }
        let arguments = match span {
            None => Arguments::none(),
            Some((start, end)) => Arguments(["[", &self.packet[start..end], "]"].concat()),
        };
        Ok(Split { event, arguments })
    }
}

/// The name of an event. A number is one, too, as in Node: the text that JavaScript makes of it.
fn event_name(json: &str) -> Result<Cow<'_, str>, &'static str> {
    if json.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        let number = json.parse().map_err(|_| "the event's name is no number")?;
        return Ok(Cow::Owned(number_name(number)));
    }
    let inner = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or("the event's name is neither a text nor a number")?;
    let name = match inner.contains('\\') {
        false => Cow::Borrowed(inner),
        true => serde_json::from_str(json)
            .map(Cow::Owned)
            .map_err(|_| "the event's name is not a text")?,
    };
    match is_socket_ios(&name) {
        true => Err("the event's name is Socket.IO's own"),
        false => Ok(name),
    }
}

/// Whether a name is one of Socket.IO's own events: as with Node, nobody may send them.
pub(crate) fn is_socket_ios(event: &str) -> bool {
    const OWN: [&str; 6] = [
        "connect",
        "connect_error",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
    ];
    OWN.contains(&event)
}

/// As `String(number)` has it in JavaScript.
fn number_name(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        1e-6..1e21 => format!("{number}"),
        // JavaScript writes a plus sign, and Rust does not.
        1e21.. if number.is_finite() => format!("{number:e}").replacen('e', "e+", 1),
        f64::INFINITY if number > 0.0 => "Infinity".to_owned(),
        f64::INFINITY => "-Infinity".to_owned(),
        _ => format!("{number:e}"),
    }
}

/// Whether a JSON text escapes half a surrogate pair by itself, as JavaScript does for a text that was cut
/// within a character. It is no character, so no text of Rust, nor of most other languages, can hold it.
pub(crate) fn has_lone_surrogate(json: &str) -> bool {
    if !json.as_bytes().contains(&b'\\') || !has_surrogate(json) {
        return false;
    }
    let mut rest = json;
    while let Some(start) = rest.find('\\') {
        let escape = &rest[start..];
        let length = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(Surrogate::First), Some(Surrogate::Second)) => 12,
            (Some(_), _) => return true,
            // Whatever is escaped belongs to it.
            (None, _) => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        rest = &escape[length..];
    }
    false
}

#[derive(Clone, Copy)]
enum Surrogate {
    First,
    Second,
}

fn has_surrogate(json: &str) -> bool {
    json.contains("\\ud") || json.contains("\\uD")
}

/// Which half of a pair an escape stands for, if it does.
fn surrogate(escape: &str) -> Option<Surrogate> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Surrogate::First),
        0xdc00..=0xdfff => Some(Surrogate::Second),
        _ => None,
    }
}

struct AnyArray;

impl<'de> Visitor<'de> for AnyArray {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn split(packet: &str) -> Result<(String, String), String> {
        split_event(packet)
            .map(|(event, arguments)| (event.into_owned(), arguments.into_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_name_is_split_from_arguments_that_stay_as_they_were_written() {
        for (packet, event, arguments) in [
            (r#"["a"]"#, "a", "[]"),
            (r#"["a",1]"#, "a", "[1]"),
            (
                r#"[ "a" , {"x": 1.10} ,[2] ]"#,
                "a",
                r#"[{"x": 1.10} ,[2]]"#,
            ),
            ("[7,1]", "7", "[1]"),
            ("[-1.50]", "-1.5", "[]"),
            ("[4.2e1]", "42", "[]"),
            ("[-0.0]", "0", "[]"),
            ("[1e21]", "1e+21", "[]"),
            ("[1e-7]", "1e-7", "[]"),
            (
                r#"["q\"uo\\te\n😀",12345678901234567890]"#,
                "q\"uo\\te\n😀",
                "[12345678901234567890]",
            ),
        ] {
            assert_eq!(
                split(packet).unwrap(),
                (event.into(), arguments.into()),
                "{packet}"
            );
        }
    }

    #[test]
    fn anything_but_one_array_with_a_name_is_refused() {
        for packet in [
            "",
            "[]",
            "{}",
            "[null]",
            "[[]]",
            r#"["connect"]"#,
            r#"["a""#,
            r#"["a",]"#,
            r#"["a",1]garbage"#,
            r#"["a"] ["b"]"#,
        ] {
            assert!(split(packet).is_err(), "{packet}");
        }
    }

    #[test]
    fn half_a_character_is_found_wherever_it_stands() {
        for (json, has_half) in [
            (r#""a\n\u00e9""#, false),
            (r#""\ud83d\ude00""#, false),
            (r#""\uD83D""#, true),
            (r#""x\ude00""#, true),
            (r#""\ud83d\ude00\ud83d\ud83d\ude00""#, true),
            (r#""\\ud83d""#, false),
            (r#""\\\ud83dé""#, true),
            (r#""\ud83d\"#, true),
            (r#""\ud8"#, false),
            (r#""\ud8é3""#, false),
        ] {
            assert_eq!(has_lone_surrogate(json), has_half, "{json}");
            let array = format!("[{json}]");
            if serde_json::from_str::<serde_json::Value>(&array).is_ok() {
                assert!(Arguments::parse(array).is_ok(), "{json}");
            } else {
                assert!(Arguments::parse(array).is_err(), "{json}");
            }
        }
    }

    #[test]
    fn joining_is_the_inverse_of_splitting() {
        let join = |event: &str, arguments: &Arguments, last| {
            let mut out = Vec::new();
            push_event(&mut out, event, arguments, last);
            String::from_utf8(out).unwrap()
        };
        for packet in [r#"["a"]"#, r#"["a",1,{"b":[2]}]"#, r#"["q\"\\\n",null]"#] {
            let (event, arguments) = split_event(packet).unwrap();
            assert_eq!(join(&event, &arguments, None), packet);
        }
        let empty = Arguments::parse("[ ]".into()).unwrap();
        assert_eq!(join("a", &empty, None), r#"["a"]"#);
        assert_eq!(join("a", &empty, Some("x")), r#"["a","x"]"#);
    }

    #[test]
    fn placeholders_stand_for_attachments() {
        let message = |arguments: &str, attachments: usize| {
            let arguments = Arguments::parse(arguments.to_owned()).unwrap();
            Message::new(arguments, vec![Bytes::from_static(b"x"); attachments]).is_ok()
        };
        let placeholder = |num: u8| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
        assert!(message(
            &format!("[{},[{{\"a\":{}}}]]", placeholder(1), placeholder(0)),
            2
        ));
        assert!(!message(&format!("[{}]", placeholder(5)), 1));
        assert!(message("[]", 1));
        assert!(!message(r#"[{"_placeholder":true}]"#, 1));
    }

    #[test]
    fn nesting_ends_where_the_parser_of_values_does() {
        let nested = |depth: usize, inner: &str| "[".repeat(depth) + inner + &"]".repeat(depth);
        for inner in ["", r#"{"a":1}"#, r#""[[{{\"[\\""#] {
            let depth = if inner.starts_with('{') {
                MAX_NESTING - 1
            } else {
                MAX_NESTING
            };
            let (allowed, too_deep) = (nested(depth, inner), nested(depth + 1, inner));
            assert!(Arguments::parse(allowed.clone()).is_ok(), "{allowed}");
            assert!(serde_json::from_str::<serde_json::Value>(&allowed).is_ok());
            let error = Arguments::parse(too_deep.clone()).unwrap_err();
            assert_eq!(error.to_string(), "nested deeper than 127 levels");
            assert!(serde_json::from_str::<serde_json::Value>(&too_deep).is_err());

            let packet = |arguments: &str| arguments.replacen('[', r#"["e","#, 1);
            if depth == MAX_NESTING && !inner.is_empty() {
                assert!(split_event(&packet(&allowed)).is_ok());
                assert!(split_event(&packet(&too_deep)).is_err());
            }
        }
        let wide = format!("[{}[]]", "[],".repeat(10_000));
        assert!(Arguments::parse(wide).is_ok());
        assert!(Arguments::parse(nested(1_000_000, "")).is_err());
    }

    #[test]
    fn arguments_are_exactly_one_array() {
        assert_eq!(
            Arguments::parse(" [1, 2]\n".into()).unwrap().as_str(),
            "[1, 2]"
        );
        for text in ["", "{}", "1", "[1", "[1] 2", "[NaN]", "[01]"] {
            assert!(Arguments::parse(text.into()).is_err(), "{text}");
        }
    }

    /// Pieces of JSON and of things that are nearly JSON.
    fn jsonish() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("["),
            Just("]"),
            Just("{"),
            Just("}"),
            Just(","),
            Just(":"),
            Just("\""),
            Just("\\"),
            Just("\\u00"),
            Just("\\ud83d"),
            Just("\"event\""),
            Just("null"),
            Just("1e999"),
            Just("-0"),
            Just("18446744073709551616"),
            Just(" "),
            Just("\u{0}"),
            Just("😀"),
            Just("{\"_placeholder\":true,\"num\":0}"),
        ];
        vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn packets_are_split_or_refused(packet in prop_oneof![jsonish(), any::<String>()]) {
            if let Ok((event, arguments)) = split_event(&packet) {
                let mut joined = Vec::new();
                push_event(&mut joined, &event, &arguments, None);
                let joined = String::from_utf8(joined).expect("it is text");
                let (again, same) = split_event(&joined).map(|(event, arguments)| (event.into_owned(), arguments)).expect("what was split joins again");
                prop_assert_eq!(again, event.into_owned());
                prop_assert_eq!(same.as_str(), arguments.as_str());
                prop_assert!(serde_json::from_str::<Vec<Box<serde_json::value::RawValue>>>(arguments.as_str()).is_ok());
            }
        }

        #[test]
        fn arguments_are_arrays_or_refused(text in prop_oneof![jsonish(), any::<String>()]) {
            if let Ok(arguments) = Arguments::parse(text) {
                prop_assert!(arguments.as_str().starts_with('[') && arguments.as_str().ends_with(']'));
            }
        }
    }
}
