//! Payloads: the packets that one request carries. The codec is engineioxide's.

use std::cell::Cell;

use bytes::Bytes;
use engineioxide_core::{
    Packet, PacketBuf, ProtocolVersion, Str,
    payload::{decoder, encoder},
};
use futures_util::{FutureExt, Stream, stream};
use http_body_util::Full;

use crate::transport::engine::websocket::frame::{self, TEXT};

/// Between two packets.
pub const SEPARATOR: u8 = 0x1e;

/// How many of the packets that wait fit into a payload of about `max` bytes, and the payload. One
/// always does.
pub fn encode<'a>(packets: impl Iterator<Item = &'a Bytes>, max: usize) -> (usize, Bytes) {
    let pulled = Cell::new(0);
    let waiting = packets.map(|frames| {
        pulled.set(pulled.get() + 1);
        to_packets(frames)
    });
    let encoded = encoder(stream::iter(waiting), ProtocolVersion::V4, true, max as u64);
    let payload = encoded.now_or_never().expect("all packets are there");
    let taken = pulled.get() - usize::from(payload.peeked.is_some());
    (taken, payload.data)
}

/// The packets of a request's body, in order; an error for the first that is none.
pub fn decode(
    body: Bytes,
) -> impl Stream<Item = Result<Packet, engineioxide_core::PacketParseError>> {
    // The body has been measured already.
    decoder(Full::new(body), None, ProtocolVersion::V4, u64::MAX)
}

/// The bytes of an attachment that came as text.
pub fn decode_attachment(base64: &str) -> Option<Bytes> {
    let packet = Packet::parse(ProtocolVersion::V4, ["b", base64].concat()).ok()?;
    Some(packet.into_binary())
}

/// What is in the frames of a packet.
fn to_packets(frames: &Bytes) -> PacketBuf {
    let packet = |(opcode, payload): (_, Bytes)| match opcode {
        TEXT => {
            let text = str::from_utf8(&payload).expect("texts are written as UTF-8");
            let packet = Packet::parse(ProtocolVersion::V4, Str::copy_from_slice(text));
            packet.expect("only packets of the protocol are written")
        }
        _ => Packet::Binary(payload),
    };
    frame::split(frames).map(packet).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::transport::engine::websocket::frame::BINARY;

    fn frames(packets: &[(frame::OpCode, &[u8])]) -> Bytes {
        let mut frames = Vec::new();
        for (opcode, payload) in packets {
            frame::push(&mut frames, *opcode, payload);
        }
        frames.into()
    }

    #[test]
    fn packets_are_put_together_as_far_as_they_fit() {
        let packets = [
            frames(&[(TEXT, b"42[\"a\"]")]),
            frames(&[(TEXT, b"451-[{}]"), (BINARY, &[1, 2, 3])]),
            frames(&[(TEXT, b"2")]),
        ];
        let all = "42[\"a\"]\u{1e}451-[{}]\u{1e}bAQID\u{1e}2";
        for (max, count, payload) in [
            (1000, 3, all),
            (1, 1, "42[\"a\"]"),
            (22, 2, &all[..all.len() - 2]),
        ] {
            assert_eq!(
                encode(packets.iter(), max),
                (count, payload.into()),
                "{max}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_what_is_no_packet() {
        let body = Bytes::from_static(b"42[\"a\"]\x1ebAQID\x1e3\x1ex\x1e2");
        let packets: Vec<_> = decode(body).collect().await;
        let packets: Vec<_> = packets.into_iter().map(Result::ok).collect();
        assert_eq!(
            packets[..4],
            [
                Some(Packet::Message("2[\"a\"]".into())),
                Some(Packet::Binary(Bytes::from_static(&[1, 2, 3]))),
                Some(Packet::Pong),
                None,
            ]
        );
    }

    #[test]
    fn an_attachment_is_base64() {
        assert_eq!(
            decode_attachment("AQID"),
            Some(Bytes::from_static(&[1, 2, 3]))
        );
        assert_eq!(decode_attachment("?"), None);
    }
}
