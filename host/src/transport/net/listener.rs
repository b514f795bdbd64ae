//! The TCP listener: no more connections than configured, no Nagle delay, no client that stops
//! reading, no client that hogs a thread.

use std::{
    io, mem,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{handshake::Handshakes, wire::Wire};
use crate::{
    address::{ClientAddress, ClientNetwork},
    config, settings,
    shares::Shares,
};

/// How many reads in a row may find data before the task gives way to others.
const READS_IN_A_ROW: u8 = 4;

/// Pause after a failed accept, e.g. when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client gets that finds all connections taken.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n";

/// The same where TLS is spoken, as nobody has agreed on keys yet: the alert `internal_error`, which is all
/// that a server can say that did not look at the client's first message.
const REFUSAL_BY_TLS: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// How many clients are told at once that all connections are taken. Others are just closed.
const REFUSALS_AT_ONCE: usize = 64;

/// How long a client may take to hear that.
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the log says that connections are refused.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Accepts connections whose writes fail when the client takes nothing for `write_timeout`.
pub(crate) struct Listener {
    tcp: Arc<TcpListener>,
    bounds: Bounds,
    tls: Option<Arc<Handshakes>>,
    /// When the log said last that a connection is refused, for each reason.
    refusals_logged: [Option<Instant>; 2],
    /// When a connection could not be accepted last.
    failed: Option<Instant>,
}

/// How many connections there may be, by all listeners of a server.
#[derive(Clone)]
pub(crate) struct Bounds {
    write_timeout: Duration,
    max_connections: usize,
    connections: Arc<Semaphore>,
    max_per_address: usize,
    /// Of the connections that are no websockets.
    shares: Arc<Mutex<Shares>>,
    settings: settings::Current,
    refusals: Arc<Semaphore>,
    refused: IntCounter,
}

impl Bounds {
    /// As configured. Connections that are refused are counted in `refused`. The current `settings` say
    /// which peers are proxies.
    pub(crate) fn new(
        config: &config::Socket,
        settings: settings::Current,
        refused: IntCounter,
    ) -> Self {
        let max_connections = config.max_connections.min(Semaphore::MAX_PERMITS);
        let max_per_address = config.max_connections_per_address();
        Self {
            write_timeout: config.write_timeout,
            max_connections,
            connections: Arc::new(Semaphore::new(max_connections)),
            max_per_address,
            shares: Arc::new(Mutex::new(Shares::new(max_per_address))),
            settings,
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
            refused,
        }
    }

    /// A part of the peer's share; none of a proxy, whose clients have nothing in common.
    fn share(&self, peer: SocketAddr) -> Result<Option<Share>, ShareTaken> {
        let address = ClientAddress::from(peer.ip());
        if self.settings.load().trusted_proxies.trusts(address) {
            return Ok(None);
        }
        let network = address.network();
        if !self.shares.lock().take(network) {
            return Err(ShareTaken);
        }
        Ok(Some(Share {
            shares: self.shares.clone(),
            network,
        }))
    }
}

impl Listener {
    /// Wraps a bound listener. Clients begin with a handshake where there are any.
    pub(crate) fn new(tcp: TcpListener, bounds: Bounds, tls: Option<Arc<Handshakes>>) -> Self {
        Self {
            tcp: Arc::new(tcp),
            bounds,
            tls,
            refusals_logged: [None; 2],
            failed: None,
        }
    }

    /// The socket, as long as it is open.
    pub(crate) fn socket(&self) -> Weak<TcpListener> {
        Arc::downgrade(&self.tcp)
    }

    /// What clients begin with, where TLS is spoken.
    pub(super) fn tls(&self) -> Option<&Arc<Handshakes>> {
        self.tls.as_ref()
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> Accepted {
        loop {
            let (tcp, address) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.not_accepted(&error);
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = self.bounds.connections.clone().try_acquire_owned() else {
                self.refuse(tcp, address, Taken::All);
                continue;
            };
            let Ok(share) = self.bounds.share(address) else {
                self.refuse(tcp, address, Taken::OfAddress);
                continue;
            };
            // Without it, small packets wait for the client's delayed ACK.
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%address, %error, "cannot switch off Nagle's algorithm");
            }
            let stream = Stream {
                io: Io::Plain(tcp),
                unread: Bytes::new(),
                write_timeout: self.bounds.write_timeout,
                stalled: None,
                is_stalled: Arc::default(),
                fairness: Fairness::default(),
                place,
            };
            return Accepted {
                stream,
                address,
                share,
            };
        }
    }

    /// Says so once, until it has gone well for a while.
    fn not_accepted(&mut self, error: &io::Error) {
        let now = Instant::now();
        let is_news = |failed| now.duration_since(failed) >= REFUSAL_LOG_INTERVAL;
        if self.failed.replace(now).is_none_or(is_news) {
            tracing::error!(%error, "cannot accept connections");
        }
    }

    fn refuse(&mut self, tcp: TcpStream, address: SocketAddr, taken: Taken) {
        self.bounds.refused.inc();
        let now = Instant::now();
        let is_news = |logged| now.duration_since(logged) >= REFUSAL_LOG_INTERVAL;
        let logged = &mut self.refusals_logged[taken as usize];
        if logged.is_none_or(is_news) {
            *logged = Some(now);
            match taken {
                Taken::All => tracing::warn!(
                    %address,
                    max_connections = self.bounds.max_connections,
                    "all connections are taken; a client is refused"
                ),
                Taken::OfAddress => tracing::warn!(
                    %address,
                    max_connections_per_address = self.bounds.max_per_address,
                    "an address has as many connections as it may; a client is refused. If it is a \
                     proxy's, name it in limits.trusted_proxies"
                ),
            }
        }
        let Ok(turn) = self.bounds.refusals.clone().try_acquire_owned() else {
            return;
        };
        let refusal = match self.tls {
            Some(_) => REFUSAL_BY_TLS,
            None => REFUSAL,
        };
        // Ends with its timeout.
        tokio::spawn(async move {
            timeout(REFUSAL_TIMEOUT, turn_away(tcp, refusal)).await.ok();
            drop(turn);
        });
    }
}

/// What a connection lacks that is refused.
#[derive(Clone, Copy)]
enum Taken {
    /// One of all connections.
    All,
    /// One of those that its address may have.
    OfAddress,
}

/// An address has as many connections as it may.
struct ShareTaken;

/// A connection that was accepted.
pub(crate) struct Accepted {
    /// Its bytes.
    pub stream: Stream,
    /// The client's address.
    pub address: SocketAddr,
    /// To be held until it ends, or becomes a websocket: what that costs is counted with its session.
    pub share: Option<Share>,
}

/// One of the connections that its address may have.
pub(crate) struct Share {
    shares: Arc<Mutex<Shares>>,
    network: ClientNetwork,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.lock().give_back(self.network);
    }
}

/// Answers and closes. What the client sends is read first: a connection that is closed with
/// something unread is reset, and the answer lost.
pub(super) async fn turn_away(mut tcp: TcpStream, answer: &[u8]) {
    if tcp.write_all(answer).await.is_err() || tcp.shutdown().await.is_err() {
        return;
    }
    let mut unread = [0; 512];
    while tcp.read(&mut unread).await.is_ok_and(|read| read > 0) {}
}

/// The client's address, as a request extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// A TCP stream, with TLS around it or without, a write timeout and fair reads.
pub(crate) struct Stream {
    io: Io,
    /// Comes before what the client sends.
    unread: Bytes,
    write_timeout: Duration,
    /// Runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Whether it does, for who has lent the stream to another.
    is_stalled: Arc<AtomicBool>,
    fairness: Fairness,
    place: Place,
}

enum Io {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// A place among the connections that there may be, for as long as it is held.
pub(crate) type Place = OwnedSemaphorePermit;

/// Keeps a client that sends without end from keeping a thread.
#[derive(Default)]
pub(super) struct Fairness {
    /// Reads that found data since the last one that did not.
    reads: u8,
}

impl Fairness {
    /// Reads, unless it is others' turn.
    pub(super) fn poll_read(
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
    /// The connection itself, and its place. What was given back must have been taken.
    pub(crate) fn into_parts(self) -> (Wire, Place) {
        debug_assert!(self.unread.is_empty());
        let wire = match self.io {
            Io::Plain(tcp) => Wire::Plain(tcp),
            Io::Secure(tls) => Wire::secure(*tls),
        };
        (wire, self.place)
    }

    /// Whether something waits to be written, as this says it then.
    pub(super) fn is_stalled(&self) -> Arc<AtomicBool> {
        self.is_stalled.clone()
    }

    /// Gives back what was read and not used.
    pub(super) fn give_back(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// Takes what was given back and not read again.
    pub(crate) fn take_unread(&mut self) -> Bytes {
        mem::take(&mut self.unread)
    }

    /// The stream with TLS around it, as `handshake` makes it of what it was.
    pub(super) async fn secured<Handshake, Failure>(
        self,
        handshake: impl FnOnce(TcpStream) -> Handshake,
    ) -> Result<Self, Failure>
    where
        Handshake: Future<Output = Result<TlsStream<TcpStream>, Failure>>,
    {
        let io = match self.io {
            Io::Plain(tcp) => Io::Secure(Box::new(handshake(tcp).await?)),
            secure @ Io::Secure(_) => secure,
        };
        Ok(Self { io, ..self })
    }

    /// Turns "pending for too long" into an error: engine.io's heartbeat cannot evict a client
    /// that stops reading, because it waits for the lock of the blocked writer.
    fn progress<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.is_stalled.store(poll.is_pending(), Ordering::Relaxed);
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
        let Self {
            io,
            unread,
            fairness,
            ..
        } = &mut *self;
        if !unread.is_empty() {
            let length = unread.len().min(buffer.remaining());
            buffer.put_slice(&unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        match io {
            Io::Plain(tcp) => fairness.poll_read(Pin::new(tcp), cx, buffer),
            Io::Secure(tls) => fairness.poll_read(Pin::new(tls), cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Io::Secure(tls) => Pin::new(tls).poll_write(cx, bytes),
        };
        self.progress(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Io::Secure(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        };
        self.progress(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(tcp) => tcp.is_write_vectored(),
            Io::Secure(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Secure(tls) => Pin::new(tls).poll_flush(cx),
        };
        self.progress(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Secure(tls) => Pin::new(tls).poll_shutdown(cx),
        };
        self.progress(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_tls_takes_no_more_than_its_socket() {
        assert_eq!(size_of::<Io>(), size_of::<TcpStream>());
    }
}
