//! The TCP listener: no Nagle delay, no client that stops reading, no client that hogs a thread.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{self, IncomingStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

/// How many reads in a row may find data before the task gives way to others.
const READS_IN_A_ROW: u8 = 4;

/// Pause after a failed accept, e.g. when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections whose writes fail when the client takes nothing for `write_timeout`.
pub struct Listener {
    tcp: TcpListener,
    write_timeout: Duration,
}

impl Listener {
    /// Wraps a bound listener.
    pub fn new(tcp: TcpListener, write_timeout: Duration) -> Self {
        Self { tcp, write_timeout }
    }
}

impl serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, address)) => {
                    // Without it, small packets wait for the client's delayed ACK.
                    if let Err(error) = tcp.set_nodelay(true) {
                        tracing::debug!(%address, %error, "cannot switch off Nagle's algorithm");
                    }
                    let stream = Stream {
                        tcp,
                        write_timeout: self.write_timeout,
                        stalled: None,
                        fairness: Fairness::default(),
                    };
                    return (stream, address);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// The client's address, as a request extension.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A TCP stream with a write timeout and fair reads.
pub struct Stream {
    tcp: TcpStream,
    write_timeout: Duration,
    /// Runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    fairness: Fairness,
}

/// Keeps a client that sends without end from keeping a thread.
#[derive(Default)]
pub struct Fairness {
    /// Reads that found data since the last one that did not.
    reads: u8,
}

impl Fairness {
    /// Reads, unless it is others' turn.
    pub fn poll_read(
        &mut self,
        tcp: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reads >= READS_IN_A_ROW {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let poll = tcp.poll_read(cx, buffer);
        self.reads = if poll.is_ready() { self.reads + 1 } else { 0 };
        poll
    }
}

impl Stream {
    /// The connection itself, and how long one write to it may take.
    pub fn into_parts(self) -> (TcpStream, Duration) {
        (self.tcp, self.write_timeout)
    }

    /// Turns "pending for too long" into an error: engine.io's heartbeat cannot evict a client
    /// that stops reading, because it waits for the lock of the blocked writer.
    fn progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client stopped reading",
        )))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { tcp, fairness, .. } = &mut *self;
        fairness.poll_read(Pin::new(tcp), cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.progress(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.progress(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.tcp).poll_flush(cx);
        self.progress(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.tcp).poll_shutdown(cx);
        self.progress(cx, poll)
    }
}
