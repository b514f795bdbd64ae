//! A Socket.IO client over one websocket: packets in, packets out, nothing more.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    packet::{self, Packet, is_event, without_offset},
    target::Target,
    websocket::{self, Kind},
};

/// Room for a read, in bytes. More than a burst of short messages.
const READ: usize = 4096;

/// A client that the main namespace has let in.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Output,
    /// Whether events end with their place in the server's log, which nobody here wants to know.
    strips_offsets: bool,
    /// Whether somebody wants to know it.
    keeps_offsets: bool,
}

/// What is to be sent; it goes out with [`Client::flush`].
#[derive(Default)]
pub struct Output {
    frames: Vec<u8>,
}

impl Output {
    /// Sends an event: the text of an array that begins with its name.
    pub fn event(&mut self, arguments: &[u8]) {
        websocket::write_text(&mut self.frames, &[b"42", arguments]);
    }

    /// Sends an event that is to be acknowledged under this id.
    pub fn event_with_ack(&mut self, id: u64, arguments: &[u8]) {
        let mut start = [0; 24];
        let mut rest = &mut start[..];
        write!(rest, "42{id}").expect("20 digits at most");
        let used = 24 - rest.len();
        websocket::write_text(&mut self.frames, &[&start[..used], arguments]);
    }

    fn packet(&mut self, text: &[u8]) {
        websocket::write_text(&mut self.frames, &[text]);
    }
}

impl Client {
    /// Opens a websocket and joins the main namespace, as user `id` if there is one; returns when
    /// the server has said who that is.
    pub async fn connect(target: &Target, token: Option<(u64, &str)>) -> Result<Self> {
        let mut client = Self::open(target).await?;
        let connect = packet::connect(token.map(|(_, token)| token));
        client.output.packet(connect.as_bytes());
        client.flush().await?;
        let (mut connected, mut authenticated) = (false, token.is_none());
        while !(connected && authenticated) {
            client.read().await?;
            client.packets(|packet, _| {
                match packet {
                    Packet::Connected { .. } => connected = true,
                    Packet::Event(arguments) => {
                        let user = token.map(|(id, _)| id);
                        check_authenticated(arguments, user)?;
                        authenticated = true;
                    }
                    Packet::Open(_) => {}
                    other => bail!("unexpected while connecting: {other:?}"),
                }
                Ok(())
            })?;
            client.flush().await?;
        }
        Ok(client)
    }

    /// Opens a websocket and asks to join the main namespace with this JSON object. The answer comes as
    /// a packet, and events as they are written.
    pub async fn begin(target: &Target, auth: &Value) -> Result<Self> {
        let mut client = Self::open(target).await?;
        client.keeps_offsets = true;
        client.output.packet(format!("40{auth}").as_bytes());
        client.flush().await?;
        Ok(client)
    }

    async fn open(target: &Target) -> Result<Self> {
        let mut stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let path = format!("{}&transport=websocket", target.endpoint());
        let request = websocket::upgrade_request(&path, &target.address.to_string());
        stream.write_all(request.as_bytes()).await?;
        let mut input = Vec::with_capacity(READ);
        let end = loop {
            let read = stream.read_buf(&mut input).await?;
            ensure!(read > 0, "the server closed the connection");
            if let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        ensure!(
            input.starts_with(b"HTTP/1.1 101"),
            "no websocket: {}",
            String::from_utf8_lossy(&input[..end])
        );
        input.drain(..end);
        Ok(Self {
            stream,
            input,
            output: Output::default(),
            strips_offsets: false,
            keeps_offsets: false,
        })
    }

    /// Waits for more from the server. Safe to cancel.
    pub async fn read(&mut self) -> Result<()> {
        // A partly read frame stays at the front; there is always room for more behind it.
        self.input.reserve(READ / 2);
        let read = self.stream.read_buf(&mut self.input).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }

    /// Hands over all packets that have been read. Pings are answered here.
    pub fn packets(
        &mut self,
        mut handle: impl FnMut(Packet<'_>, &mut Output) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        while let Some(frame) = websocket::read_frame(&self.input[start..])? {
            ensure!(frame.kind == Kind::Text, "the server closed the websocket");
            let payload = start + frame.payload.start..start + frame.payload.end;
            start = payload.end;
            let packet = match Packet::parse(&self.input[payload])? {
                Packet::Event(arguments) if self.strips_offsets => {
                    Packet::Event(without_offset(arguments))
                }
                packet => packet,
            };
            if let Packet::Connected { recovery, .. } = packet {
                self.strips_offsets = recovery && !self.keeps_offsets;
            }
            match packet {
                Packet::Ping => self.output.packet(packet::PONG),
                Packet::Disconnected => bail!("the server disconnected the client"),
                Packet::Refused(reason) => bail!("refused: {}", String::from_utf8_lossy(reason)),
                packet => handle(packet, &mut self.output)?,
            }
        }
        self.input.drain(..start);
        Ok(())
    }

    /// What is to be sent.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Sends what there is to send. Not safe to cancel.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.output.frames.is_empty() {
            self.stream.write_all(&self.output.frames).await?;
            self.output.frames.clear();
        }
        Ok(())
    }

    /// Sends an event and waits for its ack, with which nothing else may arrive; for preparations.
    pub async fn ask(&mut self, arguments: &str) -> Result<String> {
        self.output.event_with_ack(0, arguments.as_bytes());
        self.flush().await?;
        let mut answer = None;
        while answer.is_none() {
            self.read().await?;
            self.packets(|packet, _| match packet {
                Packet::Ack { id: 0, arguments } => {
                    answer = Some(String::from_utf8_lossy(arguments).into_owned());
                    Ok(())
                }
                other => bail!("unexpected instead of an ack: {other:?}"),
            })?;
            self.flush().await?;
        }
        answer.context("the loop ends with an answer")
    }

    /// Sends an event and waits for whatever event comes back; for preparations.
    pub async fn say(&mut self, arguments: &str) -> Result<()> {
        self.output.event(arguments.as_bytes());
        self.flush().await?;
        let mut answered = false;
        while !answered {
            self.read().await?;
            self.packets(|packet, _| match packet {
                Packet::Event(arguments) if !is_event(arguments, "mixlab:error") => {
                    answered = true;
                    Ok(())
                }
                other => bail!("unexpected instead of an answer: {other:?}"),
            })?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Reads, and answers pings, until there is an error or something else comes.
    pub async fn idle(&mut self) -> Result<()> {
        loop {
            self.read().await?;
            self.packets(|packet, _| bail!("unexpected: {packet:?}"))?;
            self.flush().await?;
        }
    }

    /// Leaves the namespace and closes the connection.
    pub async fn close(mut self) -> Result<()> {
        self.output.packet(packet::DISCONNECT);
        self.flush().await?;
        Ok(self.stream.shutdown().await?)
    }
}

/// Checks that the server took the token for what it is.
pub fn check_authenticated(arguments: &[u8], user: Option<u64>) -> Result<()> {
    let answer = [b"[", arguments, b"]"].concat();
    let answer: Value = serde_json::from_slice(&answer)?;
    let id = answer[1]["user"]["id"].as_str();
    let right = answer[0] == "authenticated"
        && answer[1]["success"] == true
        && user.is_some()
        && id.and_then(|id| id.parse().ok()) == user;
    ensure!(right, "user {user:?} was told {answer}");
    Ok(())
}
