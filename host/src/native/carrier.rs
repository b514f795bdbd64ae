//! socketioxide's side of an endpoint: who carries the sessions. socketioxide ends a client's transport
//! for reasons of its own only, so the host ends what it has of it: the bytes of a websocket, or in the
//! client's name its polling.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ahash::HashMap;
use axum::{Router, body::Body, extract::Request, http, response::Response};
use hyper::{
    service::Service,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use parking_lot::Mutex;
use socketioxide::{ParserConfig, SocketIo, TransportType, service::SocketIoService, socket::Sid};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    config::{self, AllowedTransports},
    transport::{Refusal, UNCACHED},
};

/// The packet by which a client that polls ends its session.
const CLOSE: &str = "1";

/// Carries the sessions of one endpoint.
pub(super) struct Carrier {
    path: String,
    service: SocketIoService<TowerToHyperService<Router>>,
    /// Ends all websockets, and the polls that wait.
    closing: CancellationToken,
    /// End the websockets to which sessions move, or have moved, from polling.
    moved: Mutex<HashMap<Sid, CancellationToken>>,
    runtime: Handle,
}

impl Carrier {
    /// A carrier with the bounds of the plugins' endpoint, and what its handlers are added to.
    pub(super) fn new(path: &str, config: &config::Socket) -> (Self, SocketIo) {
        let max_payload = config.max_payload.as_usize();
        let parser = ParserConfig::common()
            .max_incoming_binaries(config.max_attachments)
            .max_incoming_binary_buf_size(config.queue_bytes.as_usize());
        // The same, as often as it takes to have two.
        let transports = match config.allowed_transports {
            AllowedTransports {
                websocket: false, ..
            } => [TransportType::Polling; 2],
            AllowedTransports { polling: false, .. } => [TransportType::Websocket; 2],
            AllowedTransports { .. } => [TransportType::Polling, TransportType::Websocket],
        };
        let (service, io) = SocketIo::builder()
            .transports(transports)
            .req_path(path.to_owned())
            .ping_interval(config.ping_interval)
            .ping_timeout(config.ping_timeout)
            .connect_timeout(config.connect_timeout)
            .max_buffer_size(config.send_buffer)
            .max_payload(config.max_payload.bytes())
            .ws_max_message_size(max_payload)
            .ws_max_frame_size(max_payload)
            .with_parser(parser)
            .build_with_inner_svc(TowerToHyperService::new(Router::new()));
        let carrier = Self {
            path: path.to_owned(),
            service,
            closing: CancellationToken::new(),
            moved: Mutex::default(),
            runtime: Handle::current(),
        };
        (carrier, io)
    }

    /// Where its requests go to.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where its tasks run.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Answers a request that is no websocket's.
    pub(super) async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        tokio::select! {
            answer = self.service.call(request) => {
                let Ok(mut answer) = answer;
                answer.headers_mut().extend([UNCACHED]);
                Ok(answer.map(Body::new))
            }
            // A poll would wait for packets that nobody sends any more.
            () = self.closing.cancelled() => Err(Refusal::UnknownSession),
        }
    }

    /// What ends a websocket, with all others or alone.
    pub(super) fn end_of_websocket(&self) -> CancellationToken {
        self.closing.child_token()
    }

    /// Carries on a websocket once `connection` is there, until `end`. `request` is the one that asked
    /// for it.
    pub(super) fn open(
        self: &Arc<Self>,
        connection: OnUpgrade,
        request: http::Request<()>,
        end: CancellationToken,
        moved: Option<Moved>,
    ) {
        let this = self.clone();
        // Ends with the handshake.
        tokio::spawn(async move {
            let Ok(connection) = connection.await else {
                return;
            };
            let websocket = Websocket::new(connection, end, moved);
            if let Err(error) = this.service.call((websocket, request)).await {
                tracing::error!(%error, "a good request for a websocket is refused");
            }
        });
    }

    /// A session is to move from polling to a websocket; none if it does already.
    pub(super) fn begin_move(self: &Arc<Self>, id: Sid) -> Option<(CancellationToken, Moved)> {
        let end = self.end_of_websocket();
        let mut moved = self.moved.lock();
        if moved.contains_key(&id) {
            return None;
        }
        moved.insert(id, end.clone());
        let carrier = self.clone();
        Some((end, Moved { carrier, id }))
    }

    /// Ends a session that began by polling, wherever it has moved to.
    pub(super) fn end(&self, id: Sid) {
        let websocket = self.moved.lock().get(&id).cloned();
        if let Some(websocket) = websocket {
            websocket.cancel();
        }
        self.end_polling(id);
    }

    /// Nothing happens to a session that polls no more.
    fn end_polling(&self, id: Sid) {
        let uri = format!("{}/?EIO=4&transport=polling&sid={id}", self.path);
        let request = Request::post(uri).body(Body::from(CLOSE));
        let request = request.expect("the path is one, and an id has nothing but letters");
        self.runtime.spawn(self.service.call(request));
    }

    /// Ends all websockets, for a server that stops.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Whether the server stops.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }
}

/// Kept by the websocket that a session moves to.
pub(super) struct Moved {
    carrier: Arc<Carrier>,
    id: Sid,
}

impl Drop for Moved {
    fn drop(&mut self) {
        self.carrier.moved.lock().remove(&self.id);
        // A session whose move failed would wait for its websocket for ever.
        self.carrier.end_polling(self.id);
    }
}

/// The bytes of a websocket, which end when the host wants it.
struct Websocket {
    io: TokioIo<Upgraded>,
    end: CancellationToken,
    /// Waits for the end.
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _moved: Option<Moved>,
}

impl Websocket {
    fn new(connection: Upgraded, end: CancellationToken, moved: Option<Moved>) -> Self {
        Self {
            io: TokioIo::new(connection),
            ended: Box::pin(end.clone().cancelled_owned()),
            end,
            _moved: moved,
        }
    }

    /// socketioxide takes no notice of what cannot be written, and would go on until no pong comes.
    fn written<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &poll {
            self.end.cancel();
        }
        poll
    }
}

impl AsyncRead for Websocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Websocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.written(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
