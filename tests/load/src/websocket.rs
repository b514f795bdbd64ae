//! Websocket frames (RFC 6455), as far as Socket.IO needs them: short text messages, by hand,
//! because this side of a measurement has to be the cheap one.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;

/// The longest payload that a frame's second byte tells by itself, and what it says instead of a
/// length that takes two or eight bytes more.
const SHORT: usize = 125;
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

/// Nothing in these tests is larger; a length beyond it is a misread.
const MAX_PAYLOAD: usize = 64 << 20;

/// A frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: Kind,
    /// Where its payload is.
    pub payload: Range<usize>,
}

/// What a frame is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole message.
    Text,
    /// The server ends the connection.
    Close,
}

/// The request that turns an HTTP connection into a websocket.
pub fn upgrade_request(path: &str, host: &str) -> String {
    let key = BASE64_STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
}

/// Appends a text frame, masked as clients must. The mask is a real one: some servers have a
/// short cut for zeros, which browsers never send.
pub fn write_text(output: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    output.push(FINAL | TEXT);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if length <= SHORT => output.push(MASKED | short),
        (_, Ok(length)) => {
            output.push(MASKED | TWO_BYTES);
            output.extend(length.to_be_bytes());
        }
        _ => {
            output.push(MASKED | EIGHT_BYTES);
            output.extend((length as u64).to_be_bytes());
        }
    }
    let mask = fastrand::u32(1..).to_ne_bytes();
    output.extend(mask);
    let start = output.len();
    for part in parts {
        output.extend_from_slice(part);
    }
    for (byte, mask) in output[start..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The frame that `bytes` begin with; none if it is not complete yet.
pub fn read_frame(bytes: &[u8]) -> Result<Option<Frame>> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    ensure!(second & MASKED == 0, "the server sent a masked frame");
    let (header, length) = match second {
        TWO_BYTES => match bytes.get(2..4) {
            Some(length) => (4, usize::from(u16::from_be_bytes(length.try_into()?))),
            None => return Ok(None),
        },
        EIGHT_BYTES => match bytes.get(2..10) {
            Some(length) => (10, usize::try_from(u64::from_be_bytes(length.try_into()?))?),
            None => return Ok(None),
        },
        short => (2, usize::from(short)),
    };
    ensure!(
        length <= MAX_PAYLOAD,
        "the server sent a frame of {length} bytes"
    );
    let kind = match first {
        byte if byte == FINAL | TEXT => Kind::Text,
        byte if byte == FINAL | CLOSE => Kind::Close,
        other => bail!("the server sent a frame of an unexpected kind: {other:#04x}"),
    };
    let payload = header..header + length;
    Ok((bytes.len() >= payload.end).then_some(Frame { kind, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_frame_is_masked_and_whole() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            let text = vec![b'x'; length];
            let mut frame = Vec::new();
            write_text(&mut frame, &[&text[..length / 2], &text[length / 2..]]);
            let header = frame.len() - length;
            let mask: Vec<u8> = frame[header - 4..header].to_vec();
            let unmasked: Vec<u8> = frame[header..]
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            assert_eq!(unmasked, text);
            assert_ne!(mask, [0; 4]);
        }
    }

    #[test]
    fn a_frame_is_read_once_it_is_complete() {
        let mut long = vec![0x81, 126, 0x01, 0x00];
        long.extend([b'x'; 256]);
        for (bytes, payload) in [(b"\x81\x03abc".to_vec(), 2..5), (long, 4..260)] {
            for end in 0..bytes.len() {
                assert_eq!(read_frame(&bytes[..end]).unwrap(), None);
            }
            let frame = read_frame(&bytes).unwrap().unwrap();
            assert_eq!((frame.kind, frame.payload), (Kind::Text, payload));
        }
    }

    #[test]
    fn what_servers_must_not_send_is_an_error() {
        for bytes in [b"\x81\x83....abc".as_slice(), b"\x01\x03abc", b"\x82\x00"] {
            assert!(read_frame(bytes).is_err(), "{bytes:?}");
        }
    }
}
