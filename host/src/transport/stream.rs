//! The bytes of a websocket on their way between the client and socketioxide.
//!
//! Frames are followed, not parsed: each is passed on as it is, where it is, unless it is one of
//! the few that must be changed.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::{
    event_name::{self, Name},
    frame::{self, Header},
    session::Session,
};

/// A websocket's stream as socketioxide sees it.
pub struct Stream<S> {
    io: S,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl<S> Stream<S> {
    /// The stream of a session that begins with it.
    pub fn new(io: S, session: Arc<Session>, max_frame: u64) -> Self {
        Self {
            io,
            incoming: Incoming::new(max_frame, Vec::new()),
            outgoing: Outgoing::new(session, Some(Expected::FirstPing), Vec::new()),
        }
    }

    /// The stream of a session that began with polling. The client's part of the upgrade is over,
    /// socketioxide's is still to come. `read` is what the client has sent since, `unsent` are the
    /// frames that it has to get before anything else.
    pub fn upgraded(
        io: S,
        session: Arc<Session>,
        max_frame: u64,
        read: &[u8],
        unsent: Vec<u8>,
    ) -> Self {
        let mut incoming = Incoming::new(max_frame, read.to_vec());
        for packet in ["2probe", "5"] {
            frame::push_masked(&mut incoming.ready, frame::TEXT, packet.as_bytes());
        }
        Self {
            io,
            incoming,
            outgoing: Outgoing::new(session, Some(Expected::ProbeAnswer), unsent),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            io,
            incoming,
            outgoing,
        } = &mut *self;
        outgoing.session.reader.register(cx.waker());
        if outgoing.session.is_ended() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            if outgoing.swallowed_ping && incoming.is_between_frames() {
                outgoing.swallowed_ping = false;
                frame::push_masked(&mut incoming.ready, frame::TEXT, b"3");
            }
            if !incoming.ready.is_empty() {
                let length = incoming.ready.len().min(buffer.remaining());
                buffer.put_slice(&incoming.ready[..length]);
                incoming.ready.drain(..length);
                if incoming.ready.is_empty() {
                    incoming.ready = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            if incoming.held.is_empty() {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut *io).poll_read(cx, buffer))?;
                let read = &buffer.filled()[before..];
                if read.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let passed = incoming.follow(read);
                incoming.held.extend_from_slice(&read[passed..]);
                buffer.set_filled(before + passed);
                if passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else if !incoming.judge_held()
                && ready!(poll_read_buf(Pin::new(&mut *io), cx, &mut incoming.held))? == 0
            {
                // Nothing more will come: whatever it is, socketioxide may judge it.
                incoming.ready = std::mem::take(&mut incoming.held);
            }
        }
    }
}

/// A write that fails, because the client stopped reading or is gone, ends the session at once:
/// engineioxide would not look at it before the heartbeat fails.
impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        let Self { io, outgoing, .. } = &mut *self;
        let passing = outgoing.follow(bytes);
        if passing > 0 {
            let poll = Pin::new(io).poll_write(cx, &bytes[..passing]);
            outgoing.session.set_blocked(poll.is_pending());
            let written = ready!(poll).inspect_err(|_| outgoing.session.end())?;
            outgoing.passing -= written as u64;
            return Poll::Ready(Ok(written));
        }
        let taken = outgoing.take(bytes);
        if outgoing.swallowed_ping {
            outgoing.session.reader.wake();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    /// Writes the frames that are not socketioxide's.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &self.outgoing.session;
        session.writer.register(cx.waker());
        if session.is_ended() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let unsent = &mut self.outgoing.unsent;
        while !unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, unsent))
                .inspect_err(|_| session.end())?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unsent.drain(..written);
        }
        if unsent.capacity() > 0 {
            *unsent = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// The frames of the client.
struct Incoming {
    /// Larger frames are socketioxide's to refuse; they are not held.
    max_frame: u64,
    /// How much of the frame under way is still to be passed on.
    passing: u64,
    /// A frame that must be changed or cannot be judged yet, and what came behind it.
    held: Vec<u8>,
    /// What socketioxide reads next.
    ready: Vec<u8>,
}

impl Incoming {
    fn new(max_frame: u64, held: Vec<u8>) -> Self {
        Self {
            max_frame,
            passing: 0,
            held,
            ready: Vec::new(),
        }
    }

    fn is_between_frames(&self) -> bool {
        self.passing == 0
    }

    /// How many of the bytes can be passed on as they are. What follows is a frame that cannot,
    /// or not yet.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut at = skip(&mut self.passing, bytes);
        while let Some(header) = Header::parse(&bytes[at..]) {
            if name(&header, &bytes[at..]) != Name::Plain && header.length <= self.max_frame {
                break;
            }
            self.passing = header.frame_length();
            at += skip(&mut self.passing, &bytes[at..]);
        }
        at
    }

    /// Moves what can be judged from `held` to `ready`; false if more bytes are needed first.
    fn judge_held(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        let mut at = self.follow(&held);
        self.ready.extend_from_slice(&held[..at]);
        if let Some(header) = Header::parse(&held[at..])
            && let Name::Escaped(place) = name(&header, &held[at..])
            // It fits: frames over the limit are not held.
            && let Some(frame) = held.get(at..at + header.frame_length() as usize)
        {
            let packet: Vec<u8> = header.unmask(&frame[header.size..]).collect();
            let mut escaped = Vec::with_capacity(packet.len());
            event_name::insert_stand_in(&mut escaped, &packet[..place], &packet[place..]);
            frame::push_masked(&mut self.ready, header.first, &escaped);
            at += frame.len();
        }
        self.held.extend_from_slice(&held[at..]);
        at > 0
    }
}

/// What is to be done about the event name in a frame, of which the end may be missing.
fn name(header: &Header, frame: &[u8]) -> Name {
    let is_text = matches!(header.first, frame::TEXT | frame::FIRST_TEXT);
    if !is_text || header.mask.is_none() {
        return Name::Plain;
    }
    let payload = &frame[header.size..];
    let is_whole = payload.len() as u64 >= header.length;
    let length = if is_whole {
        header.length as usize
    } else {
        payload.len()
    };
    match Name::of(header.unmask(&payload[..length])) {
        // Clients that cut messages into fragments do so far behind the name.
        Name::Cut if is_whole => Name::Plain,
        name => name,
    }
}

/// A frame of socketioxide's that the client does not get.
enum Expected {
    /// The ping of a new session. The protocol wants the first one after an interval.
    FirstPing,
    /// The answer to the probe of an upgrade, which the client has got already.
    ProbeAnswer,
}

/// The frames of socketioxide.
struct Outgoing {
    session: Arc<Session>,
    /// How much of the frames under way is still to be written as it is.
    passing: u64,
    /// A frame that may have to be changed.
    held: Vec<u8>,
    /// What the client gets before anything else.
    unsent: Vec<u8>,
    expected: Option<Expected>,
    /// A ping was swallowed and has no answer yet.
    swallowed_ping: bool,
}

impl Outgoing {
    fn new(session: Arc<Session>, expected: Option<Expected>, unsent: Vec<u8>) -> Self {
        Self {
            session,
            passing: 0,
            held: Vec::new(),
            unsent,
            expected,
            swallowed_ping: false,
        }
    }

    /// How many of the bytes can be written as they are. With none, it is for [`Outgoing::take`].
    fn follow(&mut self, bytes: &[u8]) -> usize {
        if !self.held.is_empty() {
            return 0;
        }
        // Frames that were followed before but not written, as the client reads slowly.
        let mut at = bytes
            .len()
            .min(usize::try_from(self.passing).unwrap_or(usize::MAX));
        while at < bytes.len() {
            let Some(header) = Header::parse(&bytes[at..]) else {
                break;
            };
            if self.is_special(&header, &bytes[at + header.size..]) {
                break;
            }
            self.passing = (at as u64).saturating_add(header.frame_length());
            at = bytes
                .len()
                .min(usize::try_from(self.passing).unwrap_or(usize::MAX));
        }
        at
    }

    /// Whether a frame may have to be changed; `payload` may lack its end.
    fn is_special(&self, header: &Header, payload: &[u8]) -> bool {
        if header.first != frame::TEXT {
            return false;
        }
        match payload {
            [b'4', b'0', ..] => true,
            [b'4'] | [] => header.length > payload.len() as u64,
            [b'2', ..] => self.expected.is_some() && header.length == 1,
            [b'3', ..] => matches!(self.expected, Some(Expected::ProbeAnswer)),
            _ => false,
        }
    }

    /// Takes bytes of the one frame at the front; when it is whole, puts what the client gets for
    /// it into `unsent`. Returns how many bytes it took.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let held = self.held.len();
        self.held.extend_from_slice(bytes);
        let Some((header, frame)) = Header::parse(&self.held).and_then(|header| {
            let length = usize::try_from(header.frame_length()).ok()?;
            Some((header, self.held.get(..length)?))
        }) else {
            return bytes.len();
        };
        let length = frame.len();
        let packet = &frame[header.size..];
        match (packet, &self.expected) {
            (b"2", Some(Expected::FirstPing)) => {
                self.expected = None;
                self.swallowed_ping = true;
            }
            (b"3probe", Some(Expected::ProbeAnswer)) => self.expected = None,
            _ => match self.session.connect_answer(packet) {
                Some(answer) => frame::push(&mut self.unsent, frame::TEXT, answer.as_bytes()),
                None => self.unsent.extend_from_slice(frame),
            },
        }
        self.held = Vec::new();
        length - held
    }
}

/// Counts `remaining` down by what there is of `bytes`; returns how many those are.
fn skip(remaining: &mut u64, bytes: &[u8]) -> usize {
    let skipped = bytes
        .len()
        .min(usize::try_from(*remaining).unwrap_or(usize::MAX));
    *remaining -= skipped as u64;
    skipped
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::transport::session::{Introduction, Sessions};

    const MASK: [u8; 4] = [7, 99, 0, 255];
    const MAX_FRAME: u64 = 1000;

    fn session() -> Arc<Session> {
        Arc::<Sessions>::default().begin()
    }

    fn from_client(first: u8, payload: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        frame::push_masked(&mut frame, first, payload.as_bytes());
        let start = frame.len() - payload.len();
        frame[start - 4..start].copy_from_slice(&MASK);
        for (byte, mask) in frame[start..].iter_mut().zip(MASK.into_iter().cycle()) {
            *byte ^= mask;
        }
        frame
    }

    fn from_server(first: u8, payload: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        frame::push(&mut frame, first, payload.as_bytes());
        frame
    }

    /// The texts of whole frames.
    fn payloads(mut frames: &[u8]) -> Vec<String> {
        let mut payloads = Vec::new();
        while !frames.is_empty() {
            let header = Header::parse(frames).unwrap();
            let length = header.frame_length() as usize;
            let payload = header.unmask(&frames[header.size..length]).collect();
            payloads.push(String::from_utf8(payload).unwrap());
            frames = &frames[length..];
        }
        payloads
    }

    /// What socketioxide reads when `bytes` come from the network in pieces of `size`.
    async fn read(
        mut stream: Stream<DuplexStream>,
        mut client: DuplexStream,
        bytes: Vec<u8>,
        size: usize,
    ) -> Vec<u8> {
        let writing = tokio::spawn(async move {
            for piece in bytes.chunks(size) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        writing.await.unwrap();
        read
    }

    #[tokio::test]
    async fn only_frames_with_escaped_names_are_changed_however_they_arrive() {
        let long = format!("42[\"long\",\"{}\"]", "x".repeat(300));
        let huge = format!("42[\"\\n\",\"{}\"]", "x".repeat(2000));
        let sent = [
            (frame::TEXT, "40"),
            (frame::TEXT, r#"42["a\"b",1]"#),
            (frame::PING, ""),
            (frame::TEXT, &long),
            (frame::BINARY, r#"42["\\"]"#),
            (frame::FIRST_TEXT, r#"42["\n","#),
            (0x80, r#""\\"]"#),
            (frame::TEXT, &huge),
            (frame::TEXT, r#"42["na"#),
        ];
        let mut expected: Vec<&str> = sent.iter().map(|(_, payload)| *payload).collect();
        expected[1] = r#"42["mixlab:escaped","a\"b",1]"#;
        expected[5] = r#"42["mixlab:escaped","\n","#;
        let bytes: Vec<u8> = sent
            .iter()
            .flat_map(|(first, payload)| from_client(*first, payload))
            .collect();
        for size in [1, 2, 3, 7, 64, 10_000] {
            let (client, server) = duplex(10_000);
            let stream = Stream::new(server, session(), MAX_FRAME);
            let read = read(stream, client, bytes.clone(), size).await;
            assert_eq!(payloads(&read), expected, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn what_ends_in_a_frame_is_passed_on_as_far_as_it_goes() {
        let bytes = from_client(frame::TEXT, r#"42["a\"b",1]"#);
        for length in 0..bytes.len() {
            let (client, server) = duplex(1000);
            let stream = Stream::new(server, session(), MAX_FRAME);
            let read = read(stream, client, bytes[..length].to_vec(), 5).await;
            assert_eq!(read, bytes[..length]);
        }
    }

    #[tokio::test]
    async fn clients_are_introduced_and_the_first_ping_is_answered_for_them() {
        let packets = [
            "0{}",
            "2",
            "40{\"sid\":\"secret\"}",
            "42[\"a\"]",
            "40/b,{\"sid\":\"secret\"}",
            "2",
        ];
        let bytes: Vec<u8> = packets
            .iter()
            .flat_map(|packet| from_server(frame::TEXT, packet))
            .collect();
        for size in [1, 2, 3, 7, 10_000] {
            let (mut client, server) = duplex(1000);
            let session = session();
            for namespace in ["/", "/b"] {
                session.introduce(Introduction {
                    namespace: namespace.to_owned(),
                    sid: "public".to_owned(),
                    pid: None,
                });
            }
            let mut stream = Stream::new(server, session, MAX_FRAME);
            for piece in bytes.chunks(size) {
                stream.write_all(piece).await.unwrap();
            }
            stream.flush().await.unwrap();
            let mut pong = [0; 7];
            stream.read_exact(&mut pong).await.unwrap();
            assert_eq!(payloads(&pong), ["3"]);
            drop(stream);
            let mut written = Vec::new();
            client.read_to_end(&mut written).await.unwrap();
            assert_eq!(
                payloads(&written),
                [
                    "0{}",
                    "40{\"sid\":\"public\"}",
                    "42[\"a\"]",
                    "40/b,{\"sid\":\"public\"}",
                    "2"
                ],
                "in pieces of {size}"
            );
        }
    }

    #[tokio::test]
    async fn after_an_upgrade_waiting_packets_go_out_first_and_the_probe_stays_inside() {
        let (mut client, server) = duplex(1000);
        let early = from_client(frame::TEXT, "42[\"early\"]");
        let unsent = from_server(frame::TEXT, "42[\"waiting\"]");
        let mut stream = Stream::upgraded(server, session(), MAX_FRAME, &early, unsent);
        let mut read = vec![0; 12 + 7 + early.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(payloads(&read), ["2probe", "5", "42[\"early\"]"]);
        for packet in ["3probe", "42[\"new\"]", "2"] {
            stream
                .write_all(&from_server(frame::TEXT, packet))
                .await
                .unwrap();
        }
        drop(stream);
        let mut written = Vec::new();
        client.read_to_end(&mut written).await.unwrap();
        assert_eq!(payloads(&written), ["42[\"waiting\"]", "42[\"new\"]", "2"]);
    }
}
