//! A session's move from polling to a websocket.
//!
//! The client probes the websocket while it goes on polling: `2probe`, `3probe`. Then it lets the
//! poll that waits come back, sends `5`, and uses the websocket alone. socketioxide knows nothing
//! of this before the `5`, so a probe that fails changes nothing.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, http::Method};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::service::Service;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::unconstrained,
    time::{Instant, interval_at, timeout},
};

use super::{
    event_name::SEPARATOR,
    frame::{self, Header},
    front::Front,
    introduction::{Answer, Introductions},
    listener,
    session::Session,
    stream::Stream,
    websocket::Accepted,
};

/// How long the client may take, as in the Node server.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often a poll that waits is sent back meanwhile, as in the Node server: not sooner, for there may
/// be a packet for it.
const RELEASE_INTERVAL: Duration = Duration::from_millis(100);

/// The longest payload of a frame of the upgrade: control frames have no more, and packets less.
const MAX_PAYLOAD: u64 = 125;

/// Upgrades the session `id` to the websocket behind `io`, or leaves it with polling.
pub async fn run(front: &Front, session: Arc<Session>, id: &str, accepted: Accepted) {
    let mut probe = Probe {
        io: accepted.io,
        read: accepted.read.into(),
    };
    if !session.begin_upgrade() {
        probe.close().await;
        return;
    }
    let result = timeout(DEADLINE, probe.run(&session)).await;
    if !matches!(result, Ok(Ok(()))) {
        tracing::debug!("an upgrade failed; the session stays with polling");
        session.abandon_upgrade();
        probe.close().await;
        return;
    }
    session.leave_polling();
    session.polls.release(session.polls.begun());
    let Probe { io, read } = probe;
    let (tcp, write_timeout, place) = io.into_parts();
    let (reader, writer) = tcp.into_split();
    let poll = session.poll.lock().await;
    session.open_websocket(writer, write_timeout, |introductions| {
        frames(&waiting_payloads(front, id), introductions)
    });
    drop(poll);
    let stream = Stream::upgraded(reader, session, front.max_payload as u64, &read);
    let stream = Box::new(stream.in_place(place));
    let request = front.request(Method::GET, "websocket", Some(id), ());
    if let Err(error) = front.service.call((stream, request)).await {
        tracing::debug!(%error, "a session ended during its upgrade");
    }
}

/// What no poll has fetched. socketioxide would lose the first packet of it if that did not fit into
/// the last poll's payload.
fn waiting_payloads(front: &Front, id: &str) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    let poll = || front.request(Method::GET, "polling", Some(id), Body::empty());
    // A poll that would wait is dropped, and nothing with it. One that is told to give way to other
    // tasks would leave packets behind, and what comes next would overtake them.
    while let Some(Ok(payload)) = unconstrained(front.ask(poll())).now_or_never()
        && !payload.is_empty()
    {
        payloads.push(payload);
    }
    payloads
}

/// The packets of polling payloads as frames.
fn frames(payloads: &[Bytes], introductions: &mut Introductions) -> Bytes {
    let mut frames = Vec::new();
    let packets = payloads
        .iter()
        .flat_map(|payload| payload.split(|byte| *byte == SEPARATOR));
    for packet in packets {
        if introductions.has_told(packet) {
            continue;
        }
        match (introductions.answer(packet), packet.strip_prefix(b"b")) {
            (Some(Answer::Instead(answer)), _) => {
                frame::push(&mut frames, frame::TEXT, answer.as_bytes());
            }
            (Some(Answer::Given), _) => {}
            (None, Some(attachment)) => {
                // socketioxide has encoded it.
                let attachment = BASE64.decode(attachment).unwrap_or_default();
                frame::push(&mut frames, frame::BINARY, &attachment);
            }
            (None, None) => frame::push(&mut frames, frame::TEXT, packet),
        }
    }
    frames.into()
}

/// A websocket that is being probed.
struct Probe {
    io: listener::Stream,
    /// What the client has sent and nobody has looked at.
    read: Vec<u8>,
}

impl Probe {
    /// The client's part of the upgrade, from its probe to the end of its polling.
    async fn run(&mut self, session: &Session) -> io::Result<()> {
        expect(&self.packet().await?, b"2probe")?;
        // Only what has been waiting goes back: a later poll may have come behind the end of the
        // upgrade, which has not been read yet, and is to be refused.
        let mut begun = session.polls.begun();
        self.send(frame::TEXT, b"3probe").await?;
        let mut release = interval_at(Instant::now() + RELEASE_INTERVAL, RELEASE_INTERVAL);
        let mut packet = pin!(self.packet());
        loop {
            tokio::select! {
                biased;
                packet = &mut packet => return expect(&packet?, b"5"),
                _ = release.tick() => {
                    session.polls.release(begun);
                    begun = session.polls.begun();
                }
            }
        }
    }

    /// The next packet. Control frames are dealt with.
    async fn packet(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let Some(header) = Header::parse(&self.read) else {
                self.more().await?;
                continue;
            };
            if header.length > MAX_PAYLOAD || header.mask.is_none() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let length = header.frame_length() as usize;
            let Some(frame) = self.read.get(header.size..length) else {
                self.more().await?;
                continue;
            };
            let payload: Vec<u8> = header.unmask(frame).collect();
            self.read.drain(..length);
            match header.first {
                frame::TEXT => return Ok(payload),
                frame::PING => self.send(frame::PONG, &payload).await?,
                frame::PONG => {}
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.io.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        frame::push(&mut frame, first, payload);
        self.io.write_all(&frame).await?;
        self.io.flush().await
    }

    /// Closes the websocket. The client may be gone, which is fine.
    async fn close(mut self) {
        if self.send(frame::CLOSE, b"").await.is_ok() {
            self.io.shutdown().await.ok();
        }
    }
}

fn expect(packet: &[u8], expected: &[u8]) -> io::Result<()> {
    match packet == expected {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}
