//! WebSocket frames (RFC 6455) as a server writes them, and what they hold. Their headers are
//! tungstenite's work.

use std::io::Cursor;

use bytes::Bytes;
pub(crate) use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

/// A frame that holds a whole text.
pub(crate) const TEXT: OpCode = OpCode::Data(Data::Text);

/// A frame that holds a whole binary message.
pub(crate) const BINARY: OpCode = OpCode::Data(Data::Binary);

/// A frame that asks for a pong.
pub(crate) const PING: OpCode = OpCode::Control(Control::Ping);

/// The answer to a ping.
pub(crate) const PONG: OpCode = OpCode::Control(Control::Pong);

/// The last frame of either side.
pub(crate) const CLOSE: OpCode = OpCode::Control(Control::Close);

/// The bit of a frame's first byte that marks a message as deflated (RFC 7692, section 6).
const RSV1: u8 = 0x40;

/// The most that a header takes without a mask, in bytes.
pub(crate) const MAX_HEADER: usize = 10;

/// The most that a control frame may hold, in bytes.
pub(crate) const MAX_CONTROL: u64 = 125;

/// Appends a frame.
pub(crate) fn push(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let (header, size) = header(opcode, payload.len());
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(payload);
}

/// Appends a frame whose payload is deflated.
pub(crate) fn push_deflated(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let start = out.len();
    push(out, opcode, payload);
    out[start] |= RSV1;
}

/// One frame.
pub(crate) fn frame(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(MAX_HEADER + payload.len());
    push(&mut frame, opcode, payload);
    frame.into()
}

/// A frame that ends the connection, with the reason where there is one.
pub(crate) fn close(code: Option<CloseCode>) -> Bytes {
    match code {
        Some(code) => frame(CLOSE, &u16::from(code).to_be_bytes()),
        None => frame(CLOSE, &[]),
    }
}

/// Writes a header right in front of its payload, for which there are [`MAX_HEADER`] bytes. Returns
/// where the frame begins.
pub(crate) fn set_header(frame: &mut [u8], opcode: OpCode) -> usize {
    let (room, payload) = frame.split_at_mut(MAX_HEADER);
    let (header, size) = header(opcode, payload.len());
    let start = MAX_HEADER - size;
    room[start..].copy_from_slice(&header[..size]);
    start
}

/// A header without a mask, and how many bytes of it count.
fn header(opcode: OpCode, length: usize) -> ([u8; MAX_HEADER], usize) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let mut bytes = [0; MAX_HEADER];
    header
        .format(length as u64, &mut &mut bytes[..])
        .expect("there is room for the longest header");
    (bytes, header.len(length as u64))
}

/// The frames that [`push`] has written one behind the other, with what they hold.
pub(crate) fn split(frames: &Bytes) -> impl Iterator<Item = (OpCode, Bytes)> {
    let mut rest = frames.clone();
    std::iter::from_fn(move || {
        let mut cursor = Cursor::new(&rest);
        let (header, length) = FrameHeader::parse(&mut cursor).ok()??;
        let start = cursor.position() as usize;
        let frame = rest.split_to(start + length as usize);
        Some((header.opcode, frame.slice(start..)))
    })
}

/// Takes the mask off a payload.
pub(crate) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    // Eight bytes at a time; the compiler makes more of it.
    let half = u32::from_ne_bytes(mask) as u64;
    let word = half << 32 | half;
    let (words, rest) = payload.as_chunks_mut();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_split_again() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut frames = Vec::new();
            push(&mut frames, TEXT, &payload);
            push(&mut frames, BINARY, &payload);
            let frames: Vec<_> = split(&frames.into()).collect();
            let payload = Bytes::from(payload);
            assert_eq!(frames, [(TEXT, payload.clone()), (BINARY, payload)]);
        }
    }

    #[test]
    fn a_header_stands_right_before_its_payload() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut room = vec![0; MAX_HEADER];
            room.resize(MAX_HEADER + length, b'x');
            let start = set_header(&mut room, TEXT);
            assert_eq!(frame(TEXT, &vec![b'x'; length]), &room[start..]);
        }
    }

    #[test]
    fn a_mask_is_taken_off_at_any_length() {
        let mask = [1, 2, 3, 4];
        let masked: Vec<u8> = (0..40).collect();
        for length in 0..masked.len() {
            let mut payload = masked[..length].to_vec();
            unmask(&mut payload, mask);
            let expected = masked[..length].iter().zip(mask.iter().cycle());
            assert!(expected.map(|(byte, mask)| byte ^ mask).eq(payload));
        }
    }
}
