//! What guests print: kept for the log, within the log budget.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::meter::OverBudget;

/// Standard output and standard error of an instance during one call.
#[derive(Clone)]
pub struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    allowed: usize,
}

impl Output {
    /// Takes at most `allowed` bytes a call.
    pub fn new(allowed: usize) -> Self {
        Self {
            text: Arc::default(),
            allowed,
        }
    }

    /// Forgets what was printed.
    pub fn clear(&self) {
        self.text.lock().expect("no holder panics").clear();
    }

    /// Hands over what was printed; none if nothing was.
    pub fn take(&self) -> Option<String> {
        let mut text = self.text.lock().expect("no holder panics");
        if text.is_empty() {
            return None;
        }
        Some(String::from_utf8_lossy(&std::mem::take(&mut *text)).into_owned())
    }

    fn push(&self, bytes: &[u8]) -> Result<(), OverBudget> {
        let mut text = self.text.lock().expect("no holder panics");
        if text.len() + bytes.len() > self.allowed {
            return Err(OverBudget::bytes("log", self.allowed));
        }
        text.extend_from_slice(bytes);
        Ok(())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes)
            .map_err(|over| StreamError::Trap(over.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.allowed.max(1))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(
            self.push(bytes)
                .map(|()| bytes.len())
                .map_err(io::Error::other),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
