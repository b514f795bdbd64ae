//! A session's move from polling to a websocket.
//!
//! The client probes the websocket while it goes on polling: `2probe`, `3probe`. Then it lets the poll
//! that waits come back, sends `5`, and uses the websocket alone. What waits for the client goes on
//! with the polls until then, and over the websocket from then on, so nothing is lost or overtaken. A
//! probe that fails changes nothing.

use std::{
    collections::VecDeque, future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, interval_at, timeout},
};

use super::{
    WebSocket,
    accept::Accepted,
    frame,
    reader::{Messages, Reader, Stop},
};
use crate::transport::{
    engine::session::{EndReason, Session},
    net,
};

/// How long the client may take, as in the Node server.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often a poll that waits is sent back meanwhile, as in the Node server: not sooner, for there may
/// be a packet for it.
const SEND_BACK_INTERVAL: Duration = Duration::from_millis(100);

/// The largest message of the upgrade, in bytes.
const MAX_MESSAGE: usize = 125;

/// How much is read at once, in bytes.
const READ_AT_ONCE: usize = 512;

/// Moves a session to the websocket that has been accepted, or leaves it with polling. Returns the
/// websocket's task.
pub(crate) async fn run(session: Arc<Session>, accepted: Accepted) -> Option<WebSocket> {
    let mut probe = Probe {
        io: accepted.io,
        reader: Reader::new(MAX_MESSAGE, accepted.deflates, &accepted.read),
        messages: VecDeque::new(),
    };
    if !session.begin_upgrade() {
        probe.close().await;
        return None;
    }
    let result = timeout(DEADLINE, probe.run(&session)).await;
    if !matches!(result, Ok(Ok(()))) || session.has_ended() {
        tracing::debug!("an upgrade failed; the session stays with polling");
        session.abandon_upgrade();
        probe.close().await;
        return None;
    }
    let Probe { io, reader, .. } = probe;
    let (wire, place) = io.into_parts();
    session.open_websocket(wire, accepted.deflates);
    session.flush();
    Some(WebSocket::new(session, reader.held(), place))
}

/// A websocket that is being probed.
struct Probe {
    io: net::Stream,
    reader: Reader,
    /// What the client has sent and nobody has looked at.
    messages: VecDeque<Message>,
}

enum Message {
    Text(String),
    Ping(Vec<u8>),
}

impl Messages for VecDeque<Message> {
    fn text(&mut self, text: &str) -> Result<(), Stop> {
        self.push_back(Message::Text(text.to_owned()));
        // What follows the end of the upgrade is the session's.
        match text {
            "5" => Err(Stop::Over(EndReason::TransportClose)),
            _ => Ok(()),
        }
    }

    fn binary(&mut self, _: &[u8]) -> Result<(), Stop> {
        Err(Stop::Over(EndReason::ParseError))
    }

    fn ping(&mut self, bytes: &[u8]) {
        self.push_back(Message::Ping(bytes.to_owned()));
    }
}

impl Probe {
    /// The client's part of the upgrade, from its probe to the end of its polling.
    async fn run(&mut self, session: &Arc<Session>) -> io::Result<()> {
        expect(&self.packet().await?, "2probe")?;
        self.send(frame::TEXT, b"3probe").await?;
        let mut send_back = interval_at(Instant::now() + SEND_BACK_INTERVAL, SEND_BACK_INTERVAL);
        let mut packet = pin!(self.packet());
        let mut ended = pin!(ended(session));
        loop {
            tokio::select! {
                biased;
                packet = &mut packet => return expect(&packet?, "5"),
                () = &mut ended => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ = send_back.tick() => session.send_back_poll(),
            }
        }
    }

    /// The next packet. Control frames are dealt with.
    async fn packet(&mut self) -> io::Result<String> {
        loop {
            while let Some(message) = self.messages.pop_front() {
                match message {
                    Message::Text(packet) => return Ok(packet),
                    Message::Ping(bytes) => self.send(frame::PONG, &bytes).await?,
                }
            }
            let mut read = match self.reader.has_unseen() {
                true => Vec::new(),
                false => {
                    let mut read = Vec::with_capacity(READ_AT_ONCE);
                    if self.io.read_buf(&mut read).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    read
                }
            };
            match self.reader.take(&mut read, &mut self.messages) {
                Ok(()) | Err(Stop::Over(EndReason::TransportClose)) => {}
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    async fn send(&mut self, opcode: frame::OpCode, payload: &[u8]) -> io::Result<()> {
        self.io.write_all(&frame::frame(opcode, payload)).await?;
        self.io.flush().await
    }

    /// Closes the websocket. The client may be gone, which is fine.
    async fn close(mut self) {
        if self.send(frame::CLOSE, b"").await.is_ok() {
            self.io.shutdown().await.ok();
        }
    }
}

/// Waits until a session that has no websocket ends.
async fn ended(session: &Session) {
    poll_fn(|cx| {
        session.register(cx.waker());
        match session.has_ended() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

fn expect(packet: &str, expected: &str) -> io::Result<()> {
    match packet == expected {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}
