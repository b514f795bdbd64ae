//! The HTTP server: requests come in full and in time, or their connection ends.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    pin::Pin,
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
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    deferred::{Deferral, Deferred},
    handshake::Handshakes,
    listener::{Accepted, Listener, Peer, Share, Stream},
    paused::Paused,
};

/// How long a connection without a request may take, once the server stops, to send the end of
/// its last answer.
const GRACE: Duration = Duration::from_secs(1);

/// How long a connection between two requests keeps what serves them.
const REST: Duration = Duration::from_millis(500);

/// The connections of a server, for its end.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    all: TaskTracker,
    /// Those over which a request may be handled, still or at all.
    busy: TaskTracker,
}

impl Connections {
    /// Waits until no request is handled any more, once the server stops. Answers may be on their way to clients that
    /// take their time.
    pub(crate) async fn handled(&self) {
        self.busy.close();
        self.busy.wait().await;
    }

    /// Waits until all have ended.
    pub(crate) async fn ended(&self) {
        self.all.close();
        self.all.wait().await;
    }
}

/// Accepts `connections` until `accepting` is cancelled. With `stop` they end when the requests that are there then are answered. A
/// request that has not come in full by then is dropped.
pub(crate) async fn serve(
    listener: &mut Listener,
    router: &Router,
    request_timeout: Duration,
    (accepting, stop): (&CancellationToken, &CancellationToken),
    connections: &Connections,
) {
    loop {
        let Accepted {
            stream,
            address,
            share,
        } = tokio::select! {
            biased;
            () = accepting.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let connection = Connection {
            router: router.clone(),
            peer: Peer(address),
            request_timeout,
            stop: stop.clone(),
            requests: Arc::default(),
            busy: Mutex::new(Some(connections.busy.token())),
            _share: share,
        };
        match listener.tls() {
            None => connections.all.spawn(connection.run(stream)),
            Some(handshakes) => {
                let handshakes = handshakes.clone();
                let secured = connection.run_secure(stream, handshakes);
                connections.all.spawn(secured)
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
    requests: Arc<Requests>,
    /// Until the last request has been handled, if the server stops meanwhile.
    busy: Mutex<Option<TaskTrackerToken>>,
    /// Given back when the connection ends or becomes a websocket.
    _share: Option<Share>,
}

/// The requests of a connection.
#[derive(Default)]
struct Requests {
    /// Those that are being answered.
    under_way: AtomicUsize,
    /// Those among them that have been handled: their answers are being sent.
    handled: AtomicUsize,
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
        // What serves it is apart, so that its memory is given back in a pause.
        let mut served = Box::pin(self.serve(stream, None)).await;
        while let Some(pause) = &mut served
            && let Ok(answer) = pause.end(self.request_timeout, &self.stop).await
            && let Some(pause) = served.take()
        {
            served = Box::pin(self.serve(pause.resumed(&answer), answer)).await;
        }
    }

    /// Answers requests, the first one with `answer` if there is one, to the end of the connection or up to
    /// a pause.
    async fn serve(&self, stream: Stream, answer: Option<Response>) -> Option<Pause> {
        let is_stalled = stream.is_stalled();
        let requests = AtomicUsize::new(0);
        let answer = Mutex::new(answer);
        let later = Mutex::new(None);
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request| {
            requests.fetch_add(1, Ordering::Relaxed);
            let answer = answer.lock().take();
            let (router, later) = (&router, &later);
            async move {
                if let Some(answer) = answer {
                    return Ok::<_, Infallible>(answer);
                }
                let (request, under_way) = self.receive(request);
                match Deferred::of(router.call(request).await?) {
                    Ok(response) => Ok(under_way.until_sent(response)),
                    Err(deferred) => {
                        *later.lock() = Some((deferred, under_way));
                        pending().await
                    }
                }
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.request_timeout)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // What hyper has still to write would be lost in a pause.
        let is_written = || !is_stalled.load(Ordering::Relaxed);
        let is_deferred = || is_written() && later.lock().is_some();
        let rest = async { while !(self.is_at_rest(&requests).await && is_written()) {} };
        let served = tokio::select! {
            // An answer is sent whether the server stops or not.
            biased;
            served = serve_until(&mut connection, is_deferred) => served,
            () = self.stop.cancelled() => {
                // No request comes behind the one that is under way.
                Pin::new(&mut connection).graceful_shutdown();
                let is_deferred = || {
                    self.note_handled();
                    is_deferred()
                };
                tokio::select! {
                    served = serve_until(&mut connection, is_deferred) => served,
                    () = self.is_idle() => return None,
                }
            }
            // Hyper was asked just before: it is in no request now, and has seen the end of the last one.
            () = rest => Ok(()),
        };
        if let Err(error) = served {
            tracing::debug!(peer = %self.peer.0, %error, "a connection ended early");
            return None;
        }
        let http1::Parts { io, read_buf, .. } = connection.into_parts()?;
        Some(Pause {
            connection: Paused {
                stream: io.into_inner(),
                // A copy of the few bytes that there may be, without the buffer around them.
                unread: read_buf[..].into(),
            },
            request: later.lock().take(),
        })
    }

    /// A request as the router gets it: who sent it, whether it may be answered later, and a body that has a
    /// deadline.
    fn receive(&self, request: Request<Incoming>) -> (Request<Body>, UnderWay) {
        let deferral = Deferral::of(&request);
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
        if let Some(deferral) = deferral {
            request.extensions_mut().insert(deferral);
        }
        (request, UnderWay::new(&self.requests))
    }

    fn under_way(&self) -> usize {
        self.requests.under_way.load(Ordering::Acquire)
    }

    /// Once the server stops: it need not wait for an answer that is only being sent.
    fn note_handled(&self) {
        let under_way = self.under_way();
        if under_way > 0 && under_way == self.requests.handled.load(Ordering::Acquire) {
            self.busy.lock().take();
        }
    }

    /// Waits for a while; whether there was none of the `requests` in it, but one before.
    async fn is_at_rest(&self, requests: &AtomicUsize) -> bool {
        let state = || (requests.load(Ordering::Relaxed), self.under_way());
        let before = state();
        sleep(REST).await;
        let (count, _) = before;
        count > 0 && before == (count, 0) && state() == before
    }

    /// Waits until there has been no request for a while.
    async fn is_idle(&self) {
        loop {
            sleep(GRACE).await;
            if self.under_way() == 0 {
                return;
            }
        }
    }
}

/// Serves a connection to its end, or until `is_over` when it waits.
async fn serve_until(
    mut connection: impl Future<Output = hyper::Result<()>> + Unpin,
    is_over: impl Fn() -> bool,
) -> hyper::Result<()> {
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Pending if is_over() => Poll::Ready(Ok(())),
        served => served,
    })
    .await
}

/// What a connection waits for: the answer to a request, or its next one.
struct Pause {
    connection: Paused,
    request: Option<(Deferred, UnderWay)>,
}

impl Pause {
    /// Waits for what it waits for: the answer, if it is one.
    async fn end(
        &mut self,
        limit: Duration,
        stop: &CancellationToken,
    ) -> Result<Option<Response>, Over> {
        let Some((deferred, _)) = &mut self.request else {
            let next = tokio::select! {
                next = self.connection.next_request(limit) => next,
                () = stop.cancelled() => None,
            };
            return next.map(|()| None).ok_or(Over);
        };
        let response = self.connection.answer(deferred).await.ok_or(Over)?;
        let (_, under_way) = self.request.take().ok_or(Over)?;
        Ok(Some(under_way.until_sent(response)))
    }

    /// The connection, with what stands in for the request that has been answered.
    fn resumed(self, answer: &Option<Response>) -> Stream {
        match answer {
            Some(_) => self.connection.resumed_with_answer(),
            None => self.connection.resumed(),
        }
    }
}

/// The connection is: its client has gone, or has taken too long, or the server stops.
struct Over;

/// A request that is being answered.
struct UnderWay(Arc<Requests>);

impl UnderWay {
    fn new(requests: &Arc<Requests>) -> Self {
        requests.under_way.fetch_add(1, Ordering::AcqRel);
        Self(requests.clone())
    }

    /// The response, which keeps the request under way until all of it is sent.
    fn until_sent(self, response: Response) -> Response {
        self.0.handled.fetch_add(1, Ordering::AcqRel);
        let request = Handled(self);
        response.map(|body| {
            Body::new(Departing {
                body,
                _request: request,
            })
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request whose answer is being sent.
struct Handled(UnderWay);

impl Drop for Handled {
    fn drop(&mut self) {
        self.0.0.handled.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The body of a response.
struct Departing {
    body: Body,
    _request: Handled,
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
