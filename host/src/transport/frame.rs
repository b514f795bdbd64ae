//! The frames of a websocket, as far as they must be told apart (RFC 6455, section 5.2).

/// The first byte of a text frame that is a whole message.
pub const TEXT: u8 = 0x81;
/// The first byte of a text frame that further ones continue.
pub const FIRST_TEXT: u8 = 0x01;
/// The first byte of a whole binary message.
pub const BINARY: u8 = 0x82;
/// The first byte of a closing frame.
pub const CLOSE: u8 = 0x88;
/// The first byte of a ping.
pub const PING: u8 = 0x89;
/// The first byte of a pong.
pub const PONG: u8 = 0x8a;

/// The longest header that a server sends, in bytes.
pub const MAX_HEADER: usize = 10;

/// The bit of the first byte that says that no further frames continue the message.
const LAST: u8 = 0x80;
/// The bit of the first byte that opcodes of control frames have, which may stand between others.
const CONTROL: u8 = 0x08;

/// The bit of the second byte that says that the payload is masked, as clients' always is.
const MASKED: u8 = 0x80;

/// What stands in front of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Flags and opcode: one of the constants above, or something else.
    pub first: u8,
    /// What the payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub length: u64,
    /// The length of the header itself in bytes.
    pub size: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; none if it is not all there yet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, rest) = match second & !MASKED {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let (mask, rest) = match second & MASKED {
            0 => (None, rest),
            _ => {
                let (mask, rest) = rest.split_first_chunk()?;
                (Some(*mask), rest)
            }
        };
        Some(Self {
            first,
            mask,
            length,
            size: bytes.len() - rest.len(),
        })
    }

    /// The length of the whole frame in bytes.
    pub fn frame_length(&self) -> u64 {
        self.length.saturating_add(self.size as u64)
    }

    /// Whether it is the last frame of a message.
    pub fn is_last(&self) -> bool {
        self.first & LAST != 0
    }

    /// Whether it continues the message of an earlier frame.
    pub fn is_continuation(&self) -> bool {
        self.first & !LAST == 0
    }

    /// Whether it is of no message: a ping, a pong, or the end.
    pub fn is_control(&self) -> bool {
        self.first & CONTROL != 0
    }

    /// Takes the mask off a payload.
    pub fn unmask_in_place(&self, payload: &mut [u8]) {
        let Some(mask) = self.mask else { return };
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

    /// The payload's bytes without the mask.
    pub fn unmask<'a>(&self, payload: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
        let mask = self.mask.unwrap_or_default();
        let masked = payload.iter().zip(mask.into_iter().cycle());
        masked.map(|(byte, mask)| byte ^ mask)
    }
}

/// Appends a frame as a server sends it.
pub fn push(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let (header, size) = header(first, 0, payload.len());
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(payload);
}

/// Writes the header of a frame as a server sends it right in front of its payload, for which
/// there are [`MAX_HEADER`] bytes. Returns where the frame begins.
pub fn set_header(frame: &mut [u8], first: u8) -> usize {
    let (room, payload) = frame.split_at_mut(MAX_HEADER);
    let (header, size) = header(first, 0, payload.len());
    let start = MAX_HEADER - size;
    room[start..].copy_from_slice(&header[..size]);
    start
}

/// Appends a frame as a client sends it, under a mask of zeros, which leaves bytes as they are.
pub fn push_masked(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let (header, size) = header(first, MASKED, payload.len());
    out.extend_from_slice(&header[..size]);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// A header without a mask, and how many bytes of it count.
fn header(first: u8, masked: u8, length: usize) -> ([u8; MAX_HEADER], usize) {
    let mut header = [0; MAX_HEADER];
    header[0] = first;
    let size = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => {
            header[1] = masked | short;
            2
        }
        (_, Ok(medium)) => {
            header[1] = masked | 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            header[1] = masked | 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            MAX_HEADER
        }
    };
    (header, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_parsed() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut frame = Vec::new();
            push(&mut frame, TEXT, &payload);
            let header = Header::parse(&frame).unwrap();
            assert_eq!((header.first, header.mask), (TEXT, None));
            assert_eq!(header.frame_length(), frame.len() as u64);
            for cut in 0..header.size {
                assert_eq!(Header::parse(&frame[..cut]), None, "{length} cut at {cut}");
            }

            frame.clear();
            push_masked(&mut frame, BINARY, &payload);
            let header = Header::parse(&frame).unwrap();
            assert_eq!((header.first, header.mask), (BINARY, Some([0; 4])));
            assert!(header.unmask(&frame[header.size..]).eq(payload));
        }
    }

    #[test]
    fn a_mask_is_taken_off() {
        let frame = [
            TEXT,
            0x85,
            1,
            2,
            3,
            4,
            b'h' ^ 1,
            b'e' ^ 2,
            b'l' ^ 3,
            b'l' ^ 4,
            b'o' ^ 1,
        ];
        let header = Header::parse(&frame).unwrap();
        assert!(header.unmask(&frame[header.size..]).eq(*b"hello"));
        let masked: Vec<u8> = (0..40).collect();
        for length in 0..masked.len() {
            let mut payload = masked[..length].to_vec();
            header.unmask_in_place(&mut payload);
            assert!(header.unmask(&masked[..length]).eq(payload));
        }
    }
}
