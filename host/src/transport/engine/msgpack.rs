//! Packets of Socket.IO as `socket.io-msgpack-parser` has them on the wire: each one binary message, a map with `type`,
//! `nsp`, `data` and `id`, in which binary data stands in its place. At this edge they become the text and the attachments
//! that the rest of the server knows, and back; `parser = "json"` never comes here.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::websocket::frame;
use crate::{
    msgpack::{Unpacked, pack, unpack},
    transport::head::{Kind, PacketHead},
};

/// The kinds of packets by their numbers. Whether data is binary makes no difference.
const CONNECT: u8 = 0;
const DISCONNECT: u8 = 1;
const EVENT: u8 = 2;
const ACK: u8 = 3;

/// A packet as a client writes it. What else stands there, as `options`, is for its own encoder.
#[derive(Deserialize)]
struct Packet<'a> {
    #[serde(rename = "type")]
    kind: Integer,
    nsp: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    id: Option<Integer>,
}

/// A number without a fraction, which clients may write as a float, too. `Number.isInteger` decides in the stock parser.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "serde_json::Number")]
struct Integer(i128);

impl TryFrom<serde_json::Number> for Integer {
    type Error = &'static str;

    fn try_from(number: serde_json::Number) -> Result<Self, Self::Error> {
        if let Some(integer) = number.as_i128() {
            return Ok(Self(integer));
        }
        let float = number.as_f64().filter(|float| float.fract() == 0.0);
        // One that is too large for this becomes the largest.
        float
            .map(|float| Self(float as i128))
            .ok_or("no whole number")
    }
}

impl Integer {
    /// Which event a packet asks an ack for, or which ack it is: those of the server are counted from 0. `None`: no
    /// packet; `Some(None)`: an ack of nothing, which is of no use and no fault.
    fn ack(self, kind: u8) -> Option<Option<i64>> {
        match i64::try_from(self.0) {
            Ok(id) if id >= 0 => Some(Some(id)),
            _ => (kind == ACK).then_some(None),
        }
    }
}

/// What a client's message is: the text of a packet, and its attachments, `most` at most. None if it is no packet.
pub(super) fn read(message: &[u8], most: usize) -> Option<(String, Vec<Bytes>)> {
    let Unpacked { json, attachments } = unpack(message, most).ok()?;
    let Packet {
        kind,
        nsp,
        data,
        id,
    } = serde_json::from_str(&json).ok()?;
    // A comma would end the namespace early, and the rest of it would be something else.
    if !nsp.starts_with('/') || nsp.contains(',') {
        return None;
    }
    let kind = u8::try_from(kind.0).ok()?;
    let id = match id {
        Some(id) => id.ack(kind)?,
        None => None,
    };
    let has_attachments = !attachments.is_empty();
    let digit = match (kind, has_attachments) {
        (CONNECT, false) => '0',
        (DISCONNECT, false) => '1',
        (EVENT, false) => '2',
        (ACK, false) => '3',
        (EVENT, true) => '5',
        (ACK, true) => '6',
        _ => return None,
    };
    let count = has_attachments.then(|| format!("{}-", attachments.len()));
    let id = id.map(|id| id.to_string());
    let data = data.map_or("", RawValue::get);
    let head = format!(
        "{digit}{}{nsp},{}",
        count.unwrap_or_default(),
        id.unwrap_or_default()
    );
    Some((head + data, attachments))
}

/// The frame of a packet that the protocol asks for. `kind` is a digit, as in the text of packets; `json` its data, or
/// nothing.
pub(super) fn control(kind: &str, namespace: &str, json: &str) -> Bytes {
    frame::frame(frame::BINARY, &packed(kind, namespace, None, json, &[]))
}

/// The same packets, which are frames of texts with their attachments behind them, as clients of this parser get them.
pub(crate) fn frames(frames: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(frames.len());
    let mut frames = frame::split(frames).peekable();
    while let Some((_, text)) = frames.next() {
        let mut attachments = Vec::new();
        while let Some((_, attachment)) = frames.next_if(|(opcode, _)| *opcode == frame::BINARY) {
            attachments.push(attachment);
        }
        let text = str::from_utf8(&text).expect("texts are written as UTF-8");
        let packet = text.strip_prefix('4').and_then(PacketHead::parse);
        let head = packet.expect("only events and acks are written for several clients");
        let kind = match head.kind {
            Kind::Ack => "3",
            _ => "2",
        };
        let packed = packed(kind, head.namespace, head.ack, head.data, &attachments);
        frame::push(&mut out, frame::BINARY, &packed);
    }
    out.into()
}

fn packed(
    kind: &str,
    namespace: &str,
    id: Option<i64>,
    data: &str,
    attachments: &[Bytes],
) -> Vec<u8> {
    let nsp = serde_json::to_string(namespace).expect("a text always serialises");
    let mut json = format!("{{\"type\":{kind},\"nsp\":{nsp}");
    if !data.is_empty() {
        json += &format!(",\"data\":{data}");
    }
    if let Some(id) = id {
        json += &format!(",\"id\":{id}");
    }
    json.push('}');
    pack(&json, attachments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str, attachments: &[&'static [u8]]) -> Vec<u8> {
        let attachments: Vec<_> = attachments
            .iter()
            .copied()
            .map(Bytes::from_static)
            .collect();
        pack(json, &attachments)
    }

    #[test]
    fn a_packet_becomes_its_text() {
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        let binary = format!(
            r#"{{"type":2,"nsp":"/n","data":["a",{placeholder}],"id":7,"options":{{"compress":true}}}}"#
        );
        let with_attachment = format!(r#"51-/n,7["a",{placeholder}]"#);
        let cases: [(&str, &[&'static [u8]], &str); 11] = [
            (r#"{"type":0,"nsp":"/","data":null}"#, &[], "0/,"),
            (
                r#"{"type":0,"nsp":"/n","data":{"token":"x"}}"#,
                &[],
                r#"0/n,{"token":"x"}"#,
            ),
            (r#"{"type":1,"nsp":"/n"}"#, &[], "1/n,"),
            (
                r#"{"type":2,"nsp":"/","data":["a",1.5]}"#,
                &[],
                r#"2/,["a",1.5]"#,
            ),
            (r#"{"type":3,"nsp":"/","data":[],"id":0}"#, &[], "3/,0[]"),
            (
                r#"{"type":2.0,"nsp":"/","data":["a"],"id":7.0}"#,
                &[],
                r#"2/,7["a"]"#,
            ),
            (
                r#"{"type":3.0,"nsp":"/","data":[],"id":-0.0}"#,
                &[],
                "3/,0[]",
            ),
            (r#"{"type":3,"nsp":"/","data":[],"id":-1}"#, &[], "3/,[]"),
            (
                r#"{"type":3,"nsp":"/","data":[],"id":18446744073709551615}"#,
                &[],
                "3/,[]",
            ),
            (r#"{"type":3,"nsp":"/","data":[],"id":1e300}"#, &[], "3/,[]"),
            (&binary, &[b"x"], &with_attachment),
        ];
        for (json, attachments, text) in cases {
            let (read, parts) = read(&written(json, attachments), 1).unwrap();
            assert_eq!(read, text);
            assert_eq!(parts, attachments);
            assert!(PacketHead::parse(&read).is_some(), "{read}");
        }
    }

    #[test]
    fn what_is_no_packet_is_none() {
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        for json in [
            "[]",
            "1",
            "{}",
            r#"{"type":2}"#,
            r#"{"type":4,"nsp":"/","data":"x"}"#,
            r#"{"type":"2","nsp":"/","data":["a"]}"#,
            r#"{"type":2,"nsp":"n","data":["a"]}"#,
            r#"{"type":2,"nsp":"/n,7","data":["a"]}"#,
            r#"{"type":2,"nsp":"/","data":["a"],"id":-1}"#,
            r#"{"type":2,"nsp":"/","data":["a"],"id":1.5}"#,
            r#"{"type":3,"nsp":"/","data":["a"],"id":1.5}"#,
            r#"{"type":3,"nsp":"/","data":["a"],"id":"1"}"#,
            r#"{"type":258,"nsp":"/","data":["a"]}"#,
        ] {
            assert_eq!(read(&written(json, &[]), 1), None, "{json}");
        }
        let connect = format!(r#"{{"type":0,"nsp":"/","data":{{"a":{placeholder}}}}}"#);
        assert_eq!(read(&written(&connect, &[b"x"]), 1), None);
        assert_eq!(read(b"4 is no msgpack", 1), None);
    }

    #[test]
    fn packets_are_written_one_by_one() {
        let mut plain = Vec::new();
        frame::push(&mut plain, frame::TEXT, br#"42["a",1]"#);
        frame::push(
            &mut plain,
            frame::TEXT,
            br#"451-/n,7["a",{"_placeholder":true,"num":0}]"#,
        );
        frame::push(&mut plain, frame::BINARY, b"x");
        frame::push(&mut plain, frame::TEXT, b"430[]");
        let written: Vec<_> = frame::split(&frames(&plain.into())).collect();
        let read: Vec<_> = written
            .iter()
            .map(|(opcode, packed)| (*opcode, read(packed, 1).unwrap()))
            .collect();
        let binary = vec![Bytes::from_static(b"x")];
        assert_eq!(
            read,
            [
                (frame::BINARY, (r#"2/,["a",1]"#.to_owned(), vec![])),
                (
                    frame::BINARY,
                    (
                        r#"51-/n,7["a",{"_placeholder":true,"num":0}]"#.to_owned(),
                        binary
                    )
                ),
                (frame::BINARY, ("3/,0[]".to_owned(), vec![])),
            ]
        );
    }
}
