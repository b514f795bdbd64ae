//! What a client begins with where TLS is spoken. Until it is done the connection counts as one that has
//! said nothing, of all and of its address.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::IntCounterVec;
use rustls::{AlertDescription, Error};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::listener::{REFUSAL_TIMEOUT, turn_away};
use crate::tls;

/// What every handshake begins with: the type of its record.
const HANDSHAKE_RECORD: u8 = 22;

/// What a client gets that does not speak TLS.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 42\r\nConnection: close\r\n\r\nThis port is for HTTPS: use https or wss.\n";

/// How often the log says that handshakes fail for a reason that may be the server's.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Speaks first with clients.
pub(crate) struct Handshakes {
    identity: tls::Current,
    timeout: Duration,
    /// By outcome.
    counts: IntCounterVec,
    /// When the log said last that one failed, for each reason that it says.
    logged: Mutex<[Option<Instant>; 2]>,
}

/// A handshake failed, which is counted and logged.
pub(super) struct Failed;

/// Why one failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It was not done in time.
    TimedOut,
    /// The client is gone.
    Closed,
    /// The client speaks something else.
    NotTls,
    /// Client and server have no version, cipher or protocol in common.
    NothingInCommon,
    /// The client does not trust the certificate.
    CertificateRefused,
    /// The client has broken the protocol, or whatever else.
    Other,
}

impl Reason {
    /// The label of the metric.
    fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::NothingInCommon => "nothing_in_common",
            Self::CertificateRefused => "certificate_refused",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(error) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>())
        else {
            return Self::Closed;
        };
        match error {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::NothingInCommon,
            Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA,
            ) => Self::CertificateRefused,
            Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            ) => Self::NothingInCommon,
            _ => Self::Other,
        }
    }
}

impl Handshakes {
    /// Whoever comes is shown the current `identity`, and takes so long at most. `counts` has one label,
    /// the outcome.
    pub(crate) fn new(identity: tls::Current, timeout: Duration, counts: IntCounterVec) -> Self {
        Self {
            identity,
            timeout,
            counts,
            logged: Mutex::default(),
        }
    }

    /// Shakes hands with a client.
    pub(super) async fn shake_hands(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, Failed> {
        let done = timeout(self.timeout, self.try_to(tcp)).await;
        let (reason, error) = match done {
            Ok(Ok(stream)) => {
                self.count("ok");
                return Ok(stream);
            }
            Ok(Err(failure)) => failure,
            Err(_) => (Reason::TimedOut, io::ErrorKind::TimedOut.into()),
        };
        self.count(reason.as_str());
        self.log(peer, reason, &error);
        Err(Failed)
    }

    async fn try_to(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, (Reason, io::Error)> {
        let mut first = [0];
        let closed = |error| (Reason::Closed, error);
        if tcp.peek(&mut first).await.map_err(closed)? == 0 {
            return Err(closed(io::ErrorKind::UnexpectedEof.into()));
        }
        if first != [HANDSHAKE_RECORD] {
            timeout(REFUSAL_TIMEOUT, turn_away(tcp, SPEAK_TLS))
                .await
                .ok();
            return Err((Reason::NotTls, io::ErrorKind::InvalidData.into()));
        }
        let config = self.identity.load().config.clone();
        let stream = TlsAcceptor::from(config).accept(tcp).await;
        stream.map_err(|error| (Reason::of(&error), error))
    }

    fn count(&self, outcome: &str) {
        self.counts.with_label_values(&[outcome]).inc();
    }

    /// What clients do wrong is for those who look for it. That many of them do may be the server's fault.
    fn log(&self, peer: SocketAddr, reason: Reason, error: &io::Error) {
        let (index, words) = match reason {
            Reason::CertificateRefused => (0, "clients refuse the certificate"),
            Reason::NothingInCommon => (
                1,
                "clients speak no version or cipher of TLS that the server does",
            ),
            _ => {
                tracing::debug!(%peer, reason = reason.as_str(), %error, "a TLS handshake failed");
                return;
            }
        };
        let now = Instant::now();
        let is_news = |logged| now.duration_since(logged) >= LOG_INTERVAL;
        let mut logged = self.logged.lock();
        if logged[index].is_none_or(is_news) {
            logged[index] = Some(now);
            tracing::warn!(%peer, %error, "{words}; the next line of the kind comes in a minute at the earliest");
        }
    }
}
