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

/// The packet of a poll that comes back without others.
pub(in crate::transport::engine) const NOTHING: &str = "6";

/// Between two packets.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// How many of the packets that wait fit into a payload of about `max` bytes, and the payload. One
/// always does.
pub(crate) fn encode<'a>(packets: impl Iterator<Item = &'a Bytes>, max: usize) -> (usize, Bytes) {
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
pub(crate) fn decode(
    body: Bytes,
) -> impl Stream<Item = Result<Packet, engineioxide_core::PacketParseError>> {
    // The body has been measured already.
    decoder(Full::new(body), None, ProtocolVersion::V4, u64::MAX)
}

/// The bytes of an attachment that came as text.
pub(crate) fn decode_attachment(base64: &str) -> Option<Bytes> {
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
    use base64::{Engine, prelude::BASE64_STANDARD};
    use futures_util::StreamExt;
    use proptest::{collection::vec, prelude::*, sample::select};

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

    /// Packets by their text, as the protocol has it: the simplest reader that there can be.
    fn model(body: &[u8]) -> Vec<Option<Packet>> {
        let mut parts: Vec<_> = body.split(|byte| *byte == SEPARATOR).collect();
        // The codec reads nothing behind a last separator, which `post` knows.
        parts.pop_if(|last| last.is_empty());
        let packet = |part: &[u8]| {
            let text = str::from_utf8(part).ok()?;
            Some(match (*part.first()?, text.get(1..)) {
                (b'1', _) => Packet::Close,
                (b'2', Some("probe")) => Packet::PingUpgrade,
                (b'2', _) => Packet::Ping,
                (b'3', Some("probe")) => Packet::PongUpgrade,
                (b'3', _) => Packet::Pong,
                (b'4', Some(message)) => Packet::Message(message.to_owned().into()),
                (b'5', _) => Packet::Upgrade,
                (b'6', _) => Packet::Noop,
                (b'b', Some(base64)) => Packet::Binary(BASE64_STANDARD.decode(base64).ok()?.into()),
                _ => return None,
            })
        };
        parts.into_iter().map(packet).collect()
    }

    fn decoded(body: Bytes) -> Vec<Option<Packet>> {
        let packets = decode(body).map(Result::ok).collect();
        packets.now_or_never().expect("all of it is there")
    }

    /// What a client may send: packets, pieces of some, anything.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&[u8]; 14] = [
            b"\x1e",
            b"\x1e",
            b"1",
            b"2",
            b"2probe",
            b"3",
            b"4",
            b"42[\"a\"]",
            b"451-[{}]",
            b"5",
            b"bAQID",
            b"b",
            b"=",
            "é".as_bytes(),
        ];
        prop_oneof![
            3 => vec(select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat()),
            1 => vec(any::<u8>(), 0..24),
        ]
    }

    /// What a client is sent, packet by packet: a text, and the attachments behind it.
    fn waiting() -> impl Strategy<Value = Vec<(String, Vec<Vec<u8>>)>> {
        vec(("[a-zé]{0,20}", vec(vec(any::<u8>(), 0..8), 0..3)), 1..8)
    }

    proptest! {
        #[test]
        fn any_body_is_read_as_the_protocol_has_it(body in body()) {
            prop_assert_eq!(decoded(body.clone().into()), model(&body));
        }

        #[test]
        fn what_is_sent_is_read_again_whatever_fits_at_once(packets in waiting(), max in 0..100_usize) {
            let encoded: Vec<Bytes> = packets.iter().map(|(text, attachments)| {
                let text = format!("4{text}");
                let text = [(TEXT, text.as_bytes())].into_iter();
                let attachments = attachments.iter().map(|attachment| (BINARY, &**attachment));
                frames(&text.chain(attachments).collect::<Vec<_>>())
            }).collect();
            let mut left = &encoded[..];
            let mut read = Vec::new();
            while !left.is_empty() {
                let (count, payload) = encode(left.iter(), max);
                prop_assert!((1..=left.len()).contains(&count));
                // One alone may be larger; the separators within a packet are not counted.
                let separators = payload.iter().filter(|byte| **byte == SEPARATOR).count();
                prop_assert!(count == 1 || payload.len() <= max + separators);
                read.extend(decoded(payload));
                left = &left[count..];
            }
            let sent = packets.into_iter().flat_map(|(text, attachments)| {
                let text = Some(Packet::Message(text.into()));
                let binary = |attachment: Vec<u8>| Some(Packet::Binary(attachment.into()));
                std::iter::once(text).chain(attachments.into_iter().map(binary))
            });
            prop_assert_eq!(read, sent.collect::<Vec<_>>());
        }
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
