//! HTTP/1.1 over one connection, kept for as long as the server does, by hand: enough for a
//! backend's calls and for polling.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// No answer takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Larger answers are not expected.
const MAX_BODY: usize = 16 << 20;

/// A connection.
pub struct Http {
    stream: TcpStream,
    address: SocketAddr,
    input: Vec<u8>,
    /// The server has said that it ends the connection.
    closed: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// E.g. 200.
    pub status: u16,
    /// All of it.
    pub body: Vec<u8>,
}

impl Http {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            address,
            input: Vec::new(),
            closed: false,
        })
    }

    /// Sends a request and waits for the answer. `headers` are whole lines with their ends.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Response> {
        if self.closed {
            *self = Self::connect(self.address).await?;
        }
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}",
            self.address
        );
        if method != "GET" {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        let answered = async {
            self.stream.write_all(&request).await?;
            self.response().await
        };
        let response = timeout(PATIENCE, answered).await;
        response
            .context("no answer in time")
            .and_then(|response| response)
            .with_context(|| format!("{method} {path}"))
    }

    async fn response(&mut self) -> Result<Response> {
        let end = loop {
            if let Some(end) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        let head = std::str::from_utf8(&self.input[..end])?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.context("no status line")?.parse()?;
        let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let header = |name: &str| {
            let found = headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim())
        };
        let length = header("content-length").context("an answer without a length")?;
        let length: usize = length.parse()?;
        let closed = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        ensure!(length <= MAX_BODY, "an answer of {length} bytes");
        while self.input.len() < end + length {
            self.read().await?;
        }
        let body = self.input[end..end + length].to_vec();
        self.input.drain(..end + length);
        self.closed = closed;
        Ok(Response { status, body })
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.input).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}
