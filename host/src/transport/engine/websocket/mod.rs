//! A client's websocket: one task of a few hundred bytes, which reads, writes what the client did not
//! take at once, and keeps no buffer while nothing happens.

pub(crate) mod accept;
pub(crate) mod deflate;
mod extensions;
pub(crate) mod frame;
mod reader;
pub(super) mod upgrade;
pub(super) mod wanted;

use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::yield_now,
    time::{Sleep, sleep},
};

use self::reader::{Messages, Reader, Stop};
use super::session::{EndReason, Session};
use crate::transport::net::{Place, Wire};

/// How much is read at once, in bytes. Events that come together are answered together.
const READ_AT_ONCE: usize = 16 * 1024;

/// So many reads in a row may find something before others get their turn.
const READS_IN_A_ROW: usize = 4;

/// How long the client may take to close its side, once the server has.
const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    /// What is being read. Nothing of it is kept between two reads.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_AT_ONCE]);
}

/// The task of a websocket.
pub(super) struct WebSocket {
    session: Arc<Session>,
    reader: Reader,
    state: State,
    /// Held to its end.
    _place: Place,
}

/// ```text
/// Open => Parting (the session has ended) => (the task ends)
/// ```
enum State {
    Open,
    /// The last packets go out, and what comes is dropped. A socket that is closed with something
    /// unread is reset, and what it has sent may be lost.
    Parting {
        deadline: Pin<Box<Sleep>>,
        has_shut_down: bool,
    },
}

impl WebSocket {
    /// The task of a session that has got its websocket. `held` has been read already.
    fn new(session: Arc<Session>, held: &[u8], place: Place) -> Self {
        let max_message = session.policy().max_payload;
        let inflates = session.takes_deflated().is_some();
        Self {
            session,
            reader: Reader::new(max_message, inflates, held),
            state: State::Open,
            _place: place,
        }
    }

    /// Reads and writes as far as that goes.
    fn go_on(&mut self, wire: &Wire, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..READS_IN_A_ROW {
            self.write(wire, cx)?;
            if self.session.has_ended() {
                return Ok(());
            }
            if self.reader.has_unseen() {
                self.read(&mut []);
            } else if wire.poll_read_ready(cx)?.is_ready() {
                self.read_from(wire)?;
            } else {
                return Ok(());
            }
            if self.reader.has_unseen() {
                break;
            }
        }
        give_way(cx);
        Ok(())
    }

    fn read_from(&mut self, wire: &Wire) -> io::Result<()> {
        READ.with_borrow_mut(|buffer| match wire.try_read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.read(&mut buffer[..length]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Deals with bytes from the client.
    fn read(&mut self, bytes: &mut [u8]) {
        let session = &self.session;
        session.outbox.reader_left();
        let stop = self.reader.take(bytes, &mut Incoming(session)).err();
        session.outbox.reader_is_back();
        session.flush();
        match stop {
            None => {}
            Some(Stop::Closed(code)) => session.close_with(code, EndReason::TransportClose),
            Some(Stop::Violation(code)) => session.close_with(Some(code), EndReason::ParseError),
            Some(Stop::Over(reason)) => session.close_with(None, reason),
        }
    }

    /// Writes what the client did not take before, if it takes it now.
    fn write(&self, wire: &Wire, cx: &mut Context<'_>) -> io::Result<()> {
        while self.session.outbox.is_blocked() {
            if wire.poll_write_ready(cx)?.is_pending() {
                return Ok(());
            }
            self.session.outbox.unblock();
            self.session.flush();
        }
        Ok(())
    }

    /// The session is over: sees the last packets off.
    fn part(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<()> {
        if self.write(wire, cx).is_err() {
            return Poll::Ready(());
        }
        let State::Parting {
            deadline,
            has_shut_down,
        } = &mut self.state
        else {
            return Poll::Pending;
        };
        if !*has_shut_down && self.session.outbox.is_done() {
            match wire.poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => *has_shut_down = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
            }
        }
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        for _ in 0..READS_IN_A_ROW {
            match wire.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let read = READ.with_borrow_mut(|buffer| wire.try_read(buffer));
            match read {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        give_way(cx);
        Poll::Pending
    }
}

/// Has the task come back when others had their turn, also those for whom something has come meanwhile that the
/// runtime has not seen.
fn give_way(cx: &mut Context<'_>) {
    // Its first answer is that it is not over.
    let _ = pin!(yield_now()).poll(cx);
}

impl Future for WebSocket {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let session = this.session.clone();
        let Some(wire) = session.websocket() else {
            return Poll::Ready(());
        };
        session.register(cx.waker());
        if let State::Open = this.state {
            if let Err(error) = this.go_on(wire, cx) {
                tracing::trace!(%error, "a websocket is gone");
                session.outbox.close();
                session.end_here(EndReason::TransportClose);
                return Poll::Ready(());
            }
            if !session.has_ended() && !session.is_parting() {
                return Poll::Pending;
            }
            session.end_here(EndReason::TransportClose);
            this.state = State::Parting {
                deadline: Box::pin(sleep(LINGER)),
                has_shut_down: false,
            };
        }
        this.part(wire, cx)
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        // The descriptor lives as long as the session, which others may hold a while longer.
        if let Some(wire) = self.session.websocket() {
            wire.close();
        }
        // A runtime that shuts down drops its tasks.
        self.session.end(EndReason::TransportClose);
    }
}

/// The messages of a websocket are Engine.IO packets.
struct Incoming<'a>(&'a Arc<Session>);

impl Messages for Incoming<'_> {
    fn text(&mut self, text: &str) -> Result<(), Stop> {
        self.0.receive(text).map_err(Stop::Over)
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let received = self.0.receive_binary(Bytes::copy_from_slice(bytes));
        received.map_err(Stop::Over)
    }

    fn ping(&mut self, bytes: &[u8]) {
        self.0.send_frame(frame::frame(frame::PONG, bytes));
    }
}
