//! The HTTP server: requests come in full and in time, or their connection ends.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::ConnectInfo,
    response::Response,
};
use bytes::Bytes;
use hyper::{
    Request,
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    handshake::Handshakes,
    listener::{Accepted, Listener, Peer, Share, Stream},
};

/// How long a connection without a request may take, once the server stops, to send the end of
/// its last answer.
const GRACE: Duration = Duration::from_secs(1);

/// Accepts `connections` until `stop`. They end when the requests that are there then are answered. A
/// request that has not come in full by then is dropped.
pub(crate) async fn serve(
    listener: &mut Listener,
    router: &Router,
    request_timeout: Duration,
    stop: &CancellationToken,
    connections: &TaskTracker,
) {
    loop {
        let Accepted {
            stream,
            address,
            share,
        } = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let connection = Connection {
            router: router.clone(),
            peer: Peer(address),
            request_timeout,
            stop: stop.clone(),
            requests: Arc::default(),
            _share: share,
        };
        match listener.tls() {
            None => connections.spawn(connection.run(stream)),
            Some(handshakes) => {
                let handshakes = handshakes.clone();
                connections.spawn(connection.run_secure(stream, handshakes))
            }
        };
    }
}

/// One client's HTTP connection.
struct Connection {
    router: Router,
    peer: Peer,
    request_timeout: Duration,
    stop: CancellationToken,
    /// Requests that are being answered.
    requests: Arc<AtomicUsize>,
    /// Given back when the connection ends or becomes a websocket.
    _share: Option<Share>,
}

impl Connection {
    /// The same behind a handshake.
    async fn run_secure(self, stream: Stream, handshakes: Arc<Handshakes>) {
        let secured = stream.secured(|tcp| handshakes.shake_hands(tcp, self.peer.0));
        // What is under way takes more memory than what it leads to.
        let secured = Box::pin(secured);
        let secured = tokio::select! {
            secured = secured => secured,
            () = self.stop.cancelled() => return,
        };
        if let Ok(stream) = secured {
            self.run(stream).await;
        }
    }

    /// Serves it to its end, or until it becomes a websocket.
    async fn run(self, stream: Stream) {
        let service = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request| {
            let (request, under_way) = self.receive(request);
            let response = service.call(request);
            async { Ok::<_, Infallible>(under_way.until_sent(response.await?)) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.request_timeout)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    () = self.is_idle() => return,
                }
            }
        };
        if let Err(error) = served {
            tracing::debug!(peer = %self.peer.0, %error, "a connection ended early");
        }
    }

    /// A request as the router gets it: who sent it, and a body that has a deadline.
    fn receive(&self, request: Request<Incoming>) -> (Request<Body>, UnderWay) {
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                return Body::empty();
            }
            Body::new(Arriving {
                body,
                request_timeout: self.request_timeout,
                stop: self.stop.clone(),
                deadline: None,
            })
        });
        request.extensions_mut().insert(ConnectInfo(self.peer));
        (request, UnderWay::new(&self.requests))
    }

    /// Waits until there has been no request for a while.
    async fn is_idle(&self) {
        loop {
            sleep(GRACE).await;
            if self.requests.load(Ordering::Acquire) == 0 {
                return;
            }
        }
    }
}

/// A request that is being answered.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(requests: &Arc<AtomicUsize>) -> Self {
        requests.fetch_add(1, Ordering::AcqRel);
        Self(requests.clone())
    }

    /// The response, which keeps the request under way until all of it is sent.
    fn until_sent(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(Departing {
                body,
                _request: self,
            })
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of a response.
struct Departing {
    body: Body,
    _request: UnderWay,
}

impl HttpBody for Departing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request. It fails if it does not come in time, or not before the server stops.
struct Arriving {
    body: Incoming,
    request_timeout: Duration,
    stop: CancellationToken,
    /// Starts when the body has to be waited for, which most do not.
    deadline: Option<Pin<Box<dyn Future<Output = io::Error> + Send>>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        let Self {
            request_timeout,
            stop,
            deadline,
            ..
        } = &mut *self;
        let deadline =
            deadline.get_or_insert_with(|| Box::pin(too_late(*request_timeout, stop.clone())));
        let error = ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(axum::Error::new(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Waits until a body is too late, and says why.
async fn too_late(request_timeout: Duration, stop: CancellationToken) -> io::Error {
    let reason = tokio::select! {
        () = sleep(request_timeout) => "the request did not come in time",
        () = stop.cancelled() => "the server stops",
    };
    io::Error::new(io::ErrorKind::TimedOut, reason)
}
