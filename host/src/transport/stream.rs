//! The bytes of a websocket on their way between the client and socketioxide.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::tcp::OwnedReadHalf,
};

use super::{
    frame::Header,
    incoming::Incoming,
    listener::{Fairness, Place},
    passage::Passage,
    session::Session,
};

/// How much is read from a client at once, in bytes. Events that come together are answered
/// together.
const READ_AT_ONCE: usize = 8192;

/// A websocket's stream as socketioxide sees it. What it writes joins what the host itself sends,
/// in the session's [`Outbox`](super::outbox::Outbox).
pub struct Stream {
    socket: OwnedReadHalf,
    fairness: Fairness,
    session: Arc<Session>,
    incoming: Incoming,
    outgoing: Outgoing,
    /// socketioxide has been told that the session ends.
    is_closed: bool,
    place: Option<Place>,
}

impl Stream {
    /// The stream of a session that begins with it. `read` is what the client has sent already.
    pub fn new(
        socket: OwnedReadHalf,
        session: Arc<Session>,
        max_message: u64,
        read: &[u8],
    ) -> Self {
        let incoming = Incoming::new(max_message, Passage::default(), read.into());
        Self::with(socket, session, incoming, Expected::FirstPing)
    }

    fn with(
        socket: OwnedReadHalf,
        session: Arc<Session>,
        incoming: Incoming,
        expected: Expected,
    ) -> Self {
        Self {
            socket,
            fairness: Fairness::default(),
            session,
            incoming,
            outgoing: Outgoing::new(expected),
            is_closed: false,
            place: None,
        }
    }

    /// Holds its place among the connections to its end.
    pub fn in_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The stream of a session that began with polling. The client's part of the upgrade is over,
    /// socketioxide's is still to come.
    pub fn upgraded(
        socket: OwnedReadHalf,
        session: Arc<Session>,
        max_message: u64,
        read: &[u8],
    ) -> Self {
        // The attachments of a packet that came by polling may come here. A POST that is under way
        // still is too late.
        let post = session.post.try_lock();
        let passage = post.map(|mut passage| std::mem::take(&mut *passage));
        let mut incoming = Incoming::new(max_message, passage.unwrap_or_default(), read.into());
        for packet in ["2probe", "5"] {
            incoming.insert(packet.as_bytes());
        }
        Self::with(socket, session, incoming, Expected::ProbeAnswer)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            socket,
            fairness,
            session,
            incoming,
            outgoing,
            is_closed,
            ..
        } = &mut *self;
        session.reader.register(cx.waker());
        loop {
            if session.is_ended() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            // Among what waits are the answers to the events of the last round.
            if let Poll::Ready(Err(error)) = session.outbox.poll_flush(cx) {
                session.end();
                return Poll::Ready(Err(error));
            }
            if outgoing.swallowed_ping {
                outgoing.swallowed_ping = !incoming.insert(b"3");
            }
            if session.is_closing() && !*is_closed {
                // As if the client had ended it: socketioxide sends what it has left before it does.
                *is_closed = incoming.insert(b"1");
            }
            if incoming.read(buffer) {
                session.outbox.reader_left();
                return Poll::Ready(Ok(()));
            }
            incoming.settle(session);
            if incoming.go_on(session) {
                continue;
            }
            let mut space = [MaybeUninit::uninit(); READ_AT_ONCE];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(fairness.poll_read(Pin::new(&mut *socket), cx, &mut read))?;
            // The client goes on, so it has seen what went out.
            session.outbox.release();
            session.outbox.reader_left();
            match read.filled_mut() {
                [] if !incoming.end() => return Poll::Ready(Ok(())),
                [] => {}
                bytes => incoming.take(bytes, session),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self {
            session, outgoing, ..
        } = &mut *self;
        if session.is_ended() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        outgoing.take(bytes, session);
        if outgoing.swallowed_ping {
            session.reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What the client does not take now, the reader writes when it does.
        self.session.flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.outbox.release();
        let flushed = ready!(self.session.outbox.poll_flush(cx));
        self.session.outbox.close();
        Poll::Ready(flushed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.outbox.reader_ended();
        self.session.receivers.forget();
        self.session.websocket_ended();
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
    /// A frame whose end is missing.
    held: Vec<u8>,
    expected: Option<Expected>,
    /// A ping was swallowed and has no answer yet.
    swallowed_ping: bool,
}

impl Outgoing {
    fn new(expected: Expected) -> Self {
        Self {
            held: Vec::new(),
            expected: Some(expected),
            swallowed_ping: false,
        }
    }

    /// Takes bytes, and sends the frames that are whole as the client is to get them.
    fn take(&mut self, bytes: &[u8], session: &Session) {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        while let Some(header) = Header::parse(rest)
            && let Ok(length) = usize::try_from(header.frame_length())
            && let Some((frame, behind)) = rest.split_at_checked(length)
        {
            let packet = &frame[header.size..];
            match (packet, &self.expected) {
                (b"2", Some(Expected::FirstPing)) => {
                    self.expected = None;
                    self.swallowed_ping = true;
                }
                (b"3probe", Some(Expected::ProbeAnswer)) => self.expected = None,
                _ => session.pass_on(frame, packet),
            }
            rest = behind;
        }
        self.held = rest.to_vec();
    }
}

#[cfg(test)]
mod tests;
