//! The packets of events and acks, encoded once for all who get them.

use std::{io::Write, ops::Range};

use bytes::{Buf, Bytes};
use socketioxide_core::{Str, Value, packet};

use super::frame;
use crate::message::{Message, push_event};

/// What makes an engine.io message of a Socket.IO packet.
const MESSAGE: u8 = b'4';

/// What may stand in front of the array beside the namespace: two types, two numbers, a dash and
/// a comma.
const MAX_HEAD: usize = 44;

/// An event or an ack, as it goes out.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The websocket frames: the packet's text, then its attachments.
    frames: Bytes,
    /// Where in them the array of arguments stands.
    array: Range<usize>,
    attachments: Vec<Bytes>,
    ack: Option<i64>,
}

impl Packet {
    /// An event; `place` is its place in the log, for its last argument.
    pub fn event(namespace: &str, event: &str, message: Message, place: Option<&str>) -> Self {
        let place_size = place.map_or(0, |place| place.len() + 3);
        let size = event.len() + message.arguments.as_str().len() + place_size + 4;
        Self::encode(namespace, None, size, message.attachments, |text| {
            push_event(text, event, &message.arguments, place);
        })
    }

    /// The answer to an event that asked for one.
    pub fn ack(namespace: &str, id: i64, message: Message) -> Self {
        let array = message.arguments.as_str();
        Self::encode(
            namespace,
            Some(id),
            array.len(),
            message.attachments,
            |text| {
                text.extend_from_slice(array.as_bytes());
            },
        )
    }

    fn encode(
        namespace: &str,
        ack: Option<i64>,
        array_size: usize,
        attachments: Vec<Bytes>,
        push_array: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let attached: usize = attachments
            .iter()
            .map(|attachment| attachment.len() + frame::MAX_HEADER)
            .sum();
        let mut frames = Vec::with_capacity(
            frame::MAX_HEADER + MAX_HEAD + namespace.len() + array_size + attached,
        );
        // The header's size depends on the text's; it is written when that is known.
        frames.resize(frame::MAX_HEADER, 0);
        push_head(&mut frames, namespace, ack, attachments.len());
        let start = frames.len();
        push_array(&mut frames);
        let array = start..frames.len();
        let first = frame::set_header(&mut frames, frame::TEXT);
        for attachment in &attachments {
            frame::push(&mut frames, frame::BINARY, attachment);
        }
        let mut frames = Bytes::from(frames);
        frames.advance(first);
        Self {
            frames,
            array: array.start - first..array.end - first,
            attachments,
            ack,
        }
    }

    /// As websocket frames.
    pub fn frames(&self) -> &Bytes {
        &self.frames
    }

    /// The JSON array of its arguments.
    pub fn array(&self) -> &str {
        str::from_utf8(&self.frames[self.array.clone()]).expect("it was written as text")
    }

    /// What its bytes take in memory.
    pub fn size(&self) -> usize {
        let attachments = self.attachments.iter().map(Bytes::len).sum::<usize>();
        self.frames.len() + attachments
    }

    /// As socketioxide has it, for clients that it serves itself.
    pub fn to_socketioxide(&self, namespace: &Str) -> packet::Packet {
        let attachments = &self.attachments;
        let attachments = (!attachments.is_empty()).then(|| attachments.iter().cloned().collect());
        let value = Value::Str(Str::copy_from_slice(self.array()), attachments);
        match self.ack {
            Some(id) => packet::Packet::ack(namespace.clone(), value, id),
            None => packet::Packet::event(namespace.clone(), value),
        }
    }
}

const NEVER_FAILS: &str = "a vector takes everything";

/// Everything in front of the array: `42`, `43`, `451-` or `461-`, then the namespace and the id.
fn push_head(out: &mut Vec<u8>, namespace: &str, ack: Option<i64>, attachments: usize) {
    let kind = match (ack, attachments) {
        (None, 0) => b'2',
        (Some(_), 0) => b'3',
        (None, _) => b'5',
        (Some(_), _) => b'6',
    };
    out.extend_from_slice(&[MESSAGE, kind]);
    if attachments > 0 {
        write!(out, "{attachments}-").expect(NEVER_FAILS);
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = ack {
        write!(out, "{id}").expect(NEVER_FAILS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Arguments, transport::frame::Header};

    fn message(arguments: &str, attachments: &[&'static [u8]]) -> Message {
        let attachments = attachments
            .iter()
            .copied()
            .map(Bytes::from_static)
            .collect();
        Message::new(Arguments::parse(arguments.to_owned()).unwrap(), attachments).unwrap()
    }

    /// The payloads of the frames, which must be the whole of `packet`.
    fn payloads(packet: &Packet) -> Vec<(u8, String)> {
        let mut frames = &packet.frames()[..];
        let mut payloads = Vec::new();
        while !frames.is_empty() {
            let header = Header::parse(frames).unwrap();
            let (frame, rest) = frames.split_at(header.frame_length() as usize);
            payloads.push((
                header.first,
                String::from_utf8(frame[header.size..].to_vec()).unwrap(),
            ));
            frames = rest;
        }
        payloads
    }

    #[test]
    fn a_packet_is_what_the_protocol_says() {
        let binary = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        let long = format!(r#"["{}"]"#, "x".repeat(70_000));
        for (packet, text) in [
            (
                Packet::event("/", "a", message("[1]", &[]), None),
                r#"42["a",1]"#.to_owned(),
            ),
            (
                Packet::event("/", "a", message("[]", &[]), Some("o7")),
                r#"42["a","o7"]"#.to_owned(),
            ),
            (
                Packet::event("/n", "a\"", message("[1]", &[]), Some("o7")),
                r#"42/n,["a\"",1,"o7"]"#.to_owned(),
            ),
            (
                Packet::event("/", "a", message(&long, &[]), None),
                format!(r#"42["a",{}"#, &long[1..]),
            ),
            (
                Packet::ack("/", 0, message("[1]", &[])),
                "430[1]".to_owned(),
            ),
            (
                Packet::ack("/n", i64::MAX, message("[]", &[])),
                format!("43/n,{}[]", i64::MAX),
            ),
        ] {
            assert_eq!(payloads(&packet), [(frame::TEXT, text)]);
        }
        let attachments: [&[u8]; 2] = [b"x", b"yz"];
        for (packet, head) in [
            (
                Packet::event("/", "a", message(binary, &attachments), None),
                r#"452-["a","#,
            ),
            (
                Packet::ack("/n", 7, message(binary, &attachments)),
                "462-/n,7[",
            ),
        ] {
            let expected = [
                (frame::TEXT, format!("{head}{}", &binary[1..])),
                (frame::BINARY, "x".to_owned()),
                (frame::BINARY, "yz".to_owned()),
            ];
            assert_eq!(payloads(&packet), expected);
        }
    }

    #[test]
    fn socketioxide_gets_the_same_packet() {
        let namespace = Str::from("/n");
        let attachments: [&[u8]; 1] = [b"x"];
        let arguments = r#"[{"_placeholder":true,"num":0}]"#;
        let event = Packet::event("/n", "a", message(arguments, &attachments), None);
        let value = Value::Str(
            r#"["a",{"_placeholder":true,"num":0}]"#.into(),
            Some([Bytes::from_static(b"x")].into()),
        );
        assert_eq!(
            event.to_socketioxide(&namespace),
            packet::Packet::event(namespace.clone(), value)
        );
        let ack = Packet::ack("/n", 3, message("[1]", &[]));
        let value = Value::Str("[1]".into(), None);
        assert_eq!(
            ack.to_socketioxide(&namespace),
            packet::Packet::ack(namespace, value, 3)
        );
    }
}
