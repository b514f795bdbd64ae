//! The packets of events and acks, encoded once for all who get them.

use std::io::Write;

use bytes::{Buf, Bytes};

use crate::{
    message::{Message, push_event},
    transport::engine::{Forms, frame},
};

/// What makes an Engine.IO message of a Socket.IO packet.
const MESSAGE: u8 = b'4';

/// What may stand in front of the array beside the namespace: two types, two numbers, a dash and
/// a comma.
const MAX_HEAD: usize = 44;

/// An event or an ack, as it goes out: WebSocket frames, the packet's text and then its attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet(Bytes);

impl Packet {
    /// An event; `place` is its place in the log, for its last argument.
    pub fn event(namespace: &str, event: &str, message: Message, place: Option<&str>) -> Self {
        Self::any_event(namespace, None, event, message, place)
    }

    /// An event that asks for an ack with this number.
    pub fn question(namespace: &str, id: i64, event: &str, message: Message) -> Self {
        Self::any_event(namespace, Some(id), event, message, None)
    }

    fn any_event(
        namespace: &str,
        id: Option<i64>,
        event: &str,
        message: Message,
        place: Option<&str>,
    ) -> Self {
        let Message {
            arguments,
            attachments,
        } = message;
        let place_size = place.map_or(0, |place| place.len() + 3);
        let size = event.len() + arguments.as_str().len() + place_size + 4;
        Self::encode([b'2', b'5'], namespace, id, size, &attachments, |text| {
            push_event(text, event, &arguments, place);
        })
    }

    /// The answer to an event that asked for one.
    pub fn ack(namespace: &str, id: i64, message: Message) -> Self {
        let Message {
            arguments,
            attachments,
        } = message;
        let array = arguments.as_str().as_bytes();
        Self::encode(
            [b'3', b'6'],
            namespace,
            Some(id),
            array.len(),
            &attachments,
            |text| {
                text.extend_from_slice(array);
            },
        )
    }

    /// `kinds` are those without and with attachments.
    fn encode(
        kinds: [u8; 2],
        namespace: &str,
        id: Option<i64>,
        array_size: usize,
        attachments: &[Bytes],
        push_array: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let attached: usize = attachments
            .iter()
            .map(|attachment| attachment.len() + frame::MAX_HEADER)
            .sum();
        let size = frame::MAX_HEADER + MAX_HEAD + namespace.len() + array_size + attached;
        let mut frames = Vec::with_capacity(size);
        // The header's size depends on the text's; it is written when that is known.
        frames.resize(frame::MAX_HEADER, 0);
        let kind = kinds[usize::from(!attachments.is_empty())];
        push_head(&mut frames, kind, namespace, id, attachments.len());
        push_array(&mut frames);
        let first = frame::set_header(&mut frames, frame::TEXT);
        for attachment in attachments {
            frame::push(&mut frames, frame::BINARY, attachment);
        }
        let mut frames = Bytes::from(frames);
        frames.advance(first);
        Self(frames)
    }

    /// One that was [`Packet::frames`].
    pub(crate) fn from_frames(frames: Bytes) -> Self {
        Self(frames)
    }

    /// One without frames, to which they are still to come.
    pub(crate) fn empty() -> Self {
        Self(Bytes::new())
    }

    /// As WebSocket frames.
    pub fn frames(&self) -> &Bytes {
        &self.0
    }

    /// The forms in which clients take it.
    pub(crate) fn forms(&self) -> Forms<'_> {
        Forms::new(&self.0)
    }

    /// The JSON array of its arguments.
    #[cfg(test)]
    pub fn array(&self) -> String {
        let (_, text) = frame::split(&self.0).next().unwrap();
        let text = str::from_utf8(&text).unwrap();
        text[text.find('[').unwrap()..].to_owned()
    }

    /// What its bytes take in memory.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

const NEVER_FAILS: &str = "a vector takes everything";

/// Everything in front of the array: the kind, how many attachments there are if there are some, the
/// namespace and the id.
fn push_head(out: &mut Vec<u8>, kind: u8, namespace: &str, id: Option<i64>, attachments: usize) {
    out.extend_from_slice(&[MESSAGE, kind]);
    if attachments > 0 {
        write!(out, "{attachments}-").expect(NEVER_FAILS);
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        write!(out, "{id}").expect(NEVER_FAILS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Arguments;

    fn message(arguments: &str, attachments: &[&'static [u8]]) -> Message {
        let attachments = attachments
            .iter()
            .copied()
            .map(Bytes::from_static)
            .collect();
        Message::new(Arguments::parse(arguments.to_owned()).unwrap(), attachments).unwrap()
    }

    /// The payloads of the frames.
    fn payloads(packet: &Packet) -> Vec<(frame::OpCode, String)> {
        let text = |payload: Bytes| String::from_utf8(payload.into()).unwrap();
        let frames = frame::split(packet.frames());
        frames
            .map(|(opcode, payload)| (opcode, text(payload)))
            .collect()
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
                Packet::question("/n", 3, "a", message("[1]", &[])),
                r#"42/n,3["a",1]"#.to_owned(),
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
}
