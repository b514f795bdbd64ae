//! HTTP/1.1 over one kept connection, by hand: enough for a backend's calls and for polling.

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
    host: String,
    input: Vec<u8>,
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
            host: address.to_string(),
            input: Vec::new(),
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
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}",
            self.host
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
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim())
        });
        let length: usize = length.context("an answer without a length")?.parse()?;
        ensure!(length <= MAX_BODY, "an answer of {length} bytes");
        while self.input.len() < end + length {
            self.read().await?;
        }
        let body = self.input[end..end + length].to_vec();
        self.input.drain(..end + length);
        Ok(Response { status, body })
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.input).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}
