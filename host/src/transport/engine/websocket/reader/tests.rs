//! The reader beside tungstenite's: for any bytes, cut anywhere, both take the same messages and refuse
//! the same frame with the same code.
//!
//! They differ where RFC 6455 leaves it open, each in the same way always:
//!
//! - Ours judges a frame by its header, tungstenite most of it when the payload is there, too.
//! - So a frame that is too large and wrong for another reason is wrong for us, and too large for it.
//! - Ours looks at a text when it is whole, tungstenite at each part of it. Node's `ws` does as ours.
//! - Of a Close frame whose code and text are both wrong, ours names the code, as `ws` does.
//! - tungstenite takes a control frame whose length is written longer than it needs to be. The RFC wants
//!   the shortest form, and a control frame never needs another.
//!
//! `PROPTEST_CASES=1000000 cargo test --lib reader` runs longer.

use std::io::{self, Read, Write};

use proptest::{collection::vec, prelude::*, sample::select};
use tungstenite::{
    Error, Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use super::*;
use crate::transport::engine::websocket::{deflate::deflate, frame::MAX_HEADER};

/// The largest message, in bytes. Larger than a control frame may be, and so small that some are larger.
const MAX_MESSAGE: usize = 300;

/// The longest header, with its mask.
const LONGEST_HEADER: usize = MAX_HEADER + 4;

/// What somebody is told who takes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
}

impl Messages for Vec<Told> {
    fn text(&mut self, text: &str) -> Result<(), Stop> {
        self.push(Told::Text(text.to_owned()));
        Ok(())
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.push(Told::Binary(bytes.to_owned()));
        Ok(())
    }

    fn ping(&mut self, bytes: &[u8]) {
        self.push(Told::Ping(bytes.to_owned()));
    }
}

/// What became of a stream of bytes.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    told: Vec<Told>,
    /// None: more is to come.
    stop: Option<Stop>,
}

/// What our reader makes of bytes that come in these parts. The first has come with the handshake if
/// `is_held`.
fn ours(parts: &[&[u8]], is_held: bool) -> Outcome {
    let mut told = Vec::new();
    let mut parts = parts.iter();
    let held = match is_held {
        true => parts.next().copied().unwrap_or_default(),
        false => &[],
    };
    let mut reader = Reader::new(MAX_MESSAGE, false, held);
    assert_eq!(reader.has_unseen(), !held.is_empty());
    let first: &[u8] = &[];
    for part in std::iter::once(&first).chain(parts) {
        if let Err(stop) = reader.take(&mut part.to_vec(), &mut told) {
            let stop = Some(stop);
            return Outcome { told, stop };
        }
        let kept = reader.held.len();
        assert!(kept < LONGEST_HEADER + MAX_MESSAGE, "it keeps {kept} bytes");
        assert!(kept > 0 || reader.held.capacity() == 0, "for nothing");
    }
    Outcome { told, stop: None }
}

/// A client that has sent so much, and gets what it gets.
struct Sent<'a>(&'a [u8]);

impl Read for Sent<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            length => Ok(length),
        }
    }
}

impl Write for Sent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of bytes.
fn tungstenites(bytes: &[u8]) -> Outcome {
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_frame_size(Some(MAX_MESSAGE))
        .max_message_size(Some(MAX_MESSAGE));
    let mut socket = WebSocket::from_raw_socket(Sent(bytes), Role::Server, Some(config));
    let mut told = Vec::new();
    let stop = loop {
        match socket.read() {
            Ok(Message::Text(text)) => told.push(Told::Text(text.to_string())),
            Ok(Message::Binary(bytes)) => told.push(Told::Binary(bytes.to_vec())),
            Ok(Message::Ping(bytes)) => told.push(Told::Ping(bytes.to_vec())),
            Ok(Message::Pong(_)) => {}
            Ok(Message::Close(Some(close))) if close.reason == "Protocol violation" => {
                break Some(protocol_error());
            }
            Ok(Message::Close(close)) => {
                break Some(Stop::Closed(close.map(|close| close.code)));
            }
            Ok(Message::Frame(_)) => unreachable!("it reads messages only"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break None,
            Err(Error::Protocol(_)) => break Some(protocol_error()),
            Err(Error::Utf8(_)) => break Some(Stop::Violation(CloseCode::Invalid)),
            Err(Error::Capacity(_)) => break Some(Stop::Violation(CloseCode::Size)),
            Err(error) => panic!("{error}"),
        }
    };
    Outcome { told, stop }
}

/// The header of the frame that our reader has stopped at, how long it is and what it says of the
/// length of the payload. None if it cannot be read.
fn stopped_at(bytes: &[u8]) -> Option<(FrameHeader, usize, u64)> {
    let mut start = 0;
    loop {
        let mut cursor = Cursor::new(bytes.get(start..)?);
        let (header, length) = FrameHeader::parse(&mut cursor).ok()??;
        let header_length = cursor.position() as usize;
        let end = (start + header_length).saturating_add(length as usize);
        if ours(&[&bytes[..end.min(bytes.len())]], false)
            .stop
            .is_some()
        {
            return Some((header, header_length, length));
        }
        start = end;
    }
}

/// Whether tungstenite does the same as our reader, but for the differences that are listed above.
fn is_as_tungstenite(ours: &Outcome, bytes: &[u8]) -> bool {
    const INVALID: Option<Stop> = Some(Stop::Violation(CloseCode::Invalid));
    const PROTOCOL: Option<Stop> = Some(Stop::Violation(CloseCode::Protocol));
    const SIZE: Option<Stop> = Some(Stop::Violation(CloseCode::Size));
    let mut theirs = tungstenites(bytes);
    if theirs.stop.is_none() && ours.stop.is_some() {
        // Now it has the payload that it may have waited for.
        theirs = tungstenites(&[bytes, &[0; MAX_MESSAGE]].concat());
    }
    if *ours == theirs {
        return true;
    }
    let is_ping = |told: &Told| matches!(told, Told::Ping(_));
    let of_text = ours.told.strip_prefix(&*theirs.told);
    if theirs.stop == INVALID && of_text.is_some_and(|rest| rest.iter().all(is_ping)) {
        return true;
    }
    let Some((header, header_length, length)) = stopped_at(bytes) else {
        return false;
    };
    let is_control = matches!(header.opcode, OpCode::Control(_));
    if is_control && header_length > header.len(length) {
        return ours.stop == PROTOCOL && theirs.told.starts_with(&ours.told);
    }
    let is_too_large = length > MAX_MESSAGE as u64;
    ours.stop == PROTOCOL && theirs.stop == SIZE && is_too_large && ours.told == theirs.told
}

/// The pieces of texts, and of what is none.
fn text() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 7] = [
        b"x",
        "é".as_bytes(),
        "😀".as_bytes(),
        // Halves of the one before, and what no text has.
        b"\xf0\x9f",
        b"\x98\x80",
        b"\xed\xa0\x80",
        b"\xff",
    ];
    vec(select(&PIECES[..]), 0..6).prop_map(|pieces| pieces.concat())
}

/// What a frame may hold.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![
        select(&[999, 1000, 1004, 1005, 1007, 1014, 3000, 5000][..]),
        any::<u16>()
    ];
    let close = (code, text()).prop_map(|(code, text)| [&code.to_be_bytes(), &*text].concat());
    let long = (100..MAX_MESSAGE + 20).prop_map(|length| vec![b'x'; length]);
    prop_oneof![4 => text(), 2 => close, 1 => long, 1 => vec(any::<u8>(), 0..20)]
}

/// A frame; one of many breaks a rule.
fn a_frame() -> impl Strategy<Value = Vec<u8>> {
    const USUAL: [u8; 9] = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88];
    let first = prop_oneof![20 => select(&USUAL[..]), 1 => any::<u8>()];
    let is_masked = proptest::bool::weighted(0.97);
    let longer = prop_oneof![20 => Just(0), 1 => Just(1), 1 => Just(2)];
    (first, is_masked, longer, any::<[u8; 4]>(), payload()).prop_map(
        |(first, is_masked, longer, mask, mut payload)| {
            let length = payload.len();
            let form = usize::from(length > 125) + longer;
            let bit = u8::from(is_masked) << 7;
            let mut frame = vec![first];
            match form {
                0 => frame.push(bit | length as u8),
                1 => {
                    frame.push(bit | 126);
                    frame.extend((length as u16).to_be_bytes());
                }
                _ => {
                    frame.push(bit | 127);
                    frame.extend((length as u64).to_be_bytes());
                }
            }
            if is_masked {
                frame.extend(mask);
                unmask(&mut payload, mask);
            }
            frame.extend(payload);
            frame
        },
    )
}

/// Bytes as a client may send them: frames, damaged ones, anything.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec(a_frame(), 0..8).prop_map(|frames| frames.concat());
    let damaged = (
        vec(a_frame(), 1..8),
        any::<usize>(),
        any::<u8>(),
        any::<bool>(),
    );
    let damaged = damaged.prop_map(|(frames, at, byte, is_cut)| {
        let mut bytes = frames.concat();
        let at = at % bytes.len();
        bytes[at] = byte;
        if is_cut {
            bytes.truncate(at + 1);
        }
        bytes
    });
    prop_oneof![6 => frames, 3 => damaged, 1 => vec(any::<u8>(), 0..64)]
}

/// The bytes in parts that end at these places.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    let part = |end| &bytes[std::mem::replace(&mut start, end)..end];
    ends.into_iter().map(part).collect()
}

proptest! {
    #[test]
    fn the_reader_takes_and_refuses_what_tungstenite_does(
        bytes in stream(),
        cuts in vec(any::<usize>(), 0..6),
        is_held in any::<bool>(),
    ) {
        let whole = ours(&[&bytes], false);
        prop_assert_eq!(&ours(&cut(&bytes, &cuts), is_held), &whole, "in parts");
        prop_assert!(is_as_tungstenite(&whole, &bytes), "{:?} and {:?}", whole, tungstenites(&bytes));
    }
}

#[test]
fn the_known_differences_are_those() {
    let masked = |first: u8, payload: &[u8]| {
        let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend(payload);
        frame
    };
    let refused = |code| Some(Stop::Violation(code));
    let (protocol, invalid) = (refused(CloseCode::Protocol), refused(CloseCode::Invalid));
    for (name, bytes, our, their) in [
        ("judged by its header", vec![0x81, 0x05], protocol, None),
        (
            "too large and wrong",
            vec![0xc1, 0xfe, 2, 0, 0, 0, 0, 0],
            protocol,
            refused(CloseCode::Size),
        ),
        ("a text not whole", masked(0x01, b"\xff"), None, invalid),
        (
            "two faults of a Close frame",
            masked(0x88, b"\x00\x01\xff"),
            protocol,
            invalid,
        ),
        (
            "a long length",
            vec![0x89, 0xfe, 0, 0, 0, 0, 0, 0],
            protocol,
            None,
        ),
    ] {
        let (ours, theirs) = (ours(&[&bytes], false), tungstenites(&bytes));
        assert_eq!((ours.stop, theirs.stop), (our, their), "{name}");
        assert!(is_as_tungstenite(&ours, &bytes), "{name}");
    }
}

/// A masked frame with these bits before its opcode.
fn masked(bits: u8, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut frame = vec![bits | u8::from(opcode), 0xfe];
    frame.extend_from_slice(&length.to_be_bytes());
    // A mask of zeros.
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

#[test]
fn deflated_messages_are_read_where_they_are_agreed_on() {
    use crate::transport::engine::websocket::frame::BINARY;

    let more = OpCode::Data(Data::Continue);
    let text = |text: &str| vec![Told::Text(text.to_owned())];
    let long = "x".repeat(MAX_MESSAGE);
    let (hello, whole) = (deflate(b"hello"), deflate(long.as_bytes()));
    let (first, rest) = hello.split_at(3);
    let too_long = deflate("x".repeat(MAX_MESSAGE + 1).as_bytes());
    let violation = |code| Some(Stop::Violation(code));
    for (frames, told, stop) in [
        (masked(FIN | RSV1, TEXT, &hello), text("hello"), None),
        (masked(FIN, TEXT, b"plain"), text("plain"), None),
        (masked(FIN | RSV1, TEXT, &whole), text(&long), None),
        (
            [masked(RSV1, TEXT, first), masked(FIN, more, rest)].concat(),
            text("hello"),
            None,
        ),
        (
            masked(FIN | RSV1, BINARY, &[0]),
            vec![Told::Binary(Vec::new())],
            None,
        ),
        (
            masked(FIN | RSV1, TEXT, &too_long),
            vec![],
            violation(CloseCode::Size),
        ),
        (
            masked(FIN | RSV1, TEXT, b"\xff\xff"),
            vec![],
            violation(CloseCode::Invalid),
        ),
        (
            masked(FIN | RSV1, TEXT, &deflate(b"\xff")),
            vec![],
            violation(CloseCode::Invalid),
        ),
        (
            [masked(RSV1, TEXT, first), masked(FIN | RSV1, more, rest)].concat(),
            vec![],
            violation(CloseCode::Protocol),
        ),
        (
            masked(FIN | 0x20, TEXT, &hello),
            vec![],
            violation(CloseCode::Protocol),
        ),
        (
            vec![FIN | RSV1 | 0x9, 0x80, 0, 0, 0, 0],
            vec![],
            violation(CloseCode::Protocol),
        ),
    ] {
        let mut taken = Vec::new();
        let mut reader = Reader::new(MAX_MESSAGE, true, &[]);
        let stopped = reader.take(&mut frames.clone(), &mut taken).err();
        assert_eq!((taken, stopped), (told, stop), "{frames:x?}");
        let mut reader = Reader::new(MAX_MESSAGE, false, &[]);
        let stopped = reader
            .take(&mut frames.clone(), &mut Vec::<Told>::new())
            .err();
        let is_marked = frames[0] & 0x70 != 0;
        assert_eq!(stopped, is_marked.then(protocol_error), "{frames:x?}");
    }
}

#[test]
fn what_takes_long_to_inflate_is_dealt_with_message_by_message() {
    let message = "x".repeat(INFLATED_IN_A_ROW);
    let [large, small] = [&*message, "y"].map(|text| deflate(text.as_bytes()));
    let frame = |payload: &[u8]| masked(FIN | RSV1, TEXT, payload);
    let mut sent = [&large, &small, &large, &small]
        .map(|it| frame(it))
        .concat();
    sent.extend(&frame(&small)[..1]);
    let mut reader = Reader::new(INFLATED_IN_A_ROW, true, &[]);
    let mut taken: Vec<Told> = Vec::new();
    let mut counts = Vec::new();
    reader.take(&mut sent, &mut taken).unwrap();
    counts.push(taken.len());
    while reader.has_unseen() {
        reader.take(&mut [], &mut taken).unwrap();
        counts.push(taken.len());
    }
    assert_eq!(counts, [1, 3, 4]);
    let text = |text: &str| Told::Text(text.to_owned());
    let both = [text(&message), text("y")];
    assert_eq!(taken, [both.clone(), both].concat());
    assert_eq!(reader.held().len(), 1, "half a header is no message");
}
