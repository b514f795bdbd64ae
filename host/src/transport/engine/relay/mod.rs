//! Requests of clients whose sessions another server of the cluster has: a balancer that is not sticky sends them
//! anywhere. They are passed on to that server, whose name is in the session's id, and its answer goes back.

mod proof;

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use futures_util::{FutureExt, future::BoxFuture};
use http::{
    HeaderMap, HeaderName, StatusCode, Uri, Version,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, EXPECT,
        PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, STRICT_TRANSPORT_SECURITY, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE, VARY,
    },
    request::Parts,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{
    io::{AsyncWriteExt, copy, split},
    sync::{OnceCell, watch},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use self::proof::{HEADER, Proofs};
use super::{refusal::Refusal, websocket::wanted};
use crate::{
    cluster::{Cluster, Seal},
    config::ServerAddress,
    http_client,
    rarely::Rarely,
    transport::key::SessionKey,
};

/// How long another server may take to take a connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// How long a connection to it that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(20);

/// When a server is asked whether it is there that has said nothing for a while.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How often it is asked until it is gone.
const KEEPALIVE_PROBES: u32 = 3;

/// How long one side of a websocket may take to close when the other has.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// How many hex digits a server's name has.
const NAME_DIGITS: usize = 16;

/// What stands between a session's key and its server's name: in no key.
const SEPARATOR: char = '.';

/// Headers that are for one connection, and not for the next one.
const OF_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers that this server gives each answer itself.
const OF_SERVER: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    STRICT_TRANSPORT_SECURITY,
    VARY,
];

/// Sends a request over a connection that is kept. Without the client's type, which is in that of each session,
/// and too deep for the compiler to look through.
type Ask =
    Box<dyn Fn(Request) -> BoxFuture<'static, Result<Response<Incoming>, Error>> + Send + Sync>;

/// Knows whose a session is, and passes requests on.
pub(crate) struct Relay {
    cluster: Arc<Cluster>,
    seal: Seal,
    /// What the ids of this server's sessions end with.
    suffix: Box<str>,
    /// How long the answer to a request may take: polls wait for the next ping.
    patience: Duration,
    /// Made by the first request: to read the system's certificates takes a while.
    ask: OnceCell<Ask>,
    proofs: Proofs,
    websockets: TaskTracker,
    /// Over which time they end, once the server leaves.
    leaving: watch::Sender<Option<Duration>>,
    complaints: Rarely,
}

impl Relay {
    /// In a cluster whose servers pass requests on; polls may take so long.
    pub(crate) fn new(cluster: &Arc<Cluster>, patience: Duration) -> Option<Self> {
        let seal = cluster.passes_on()?.clone();
        Some(Self {
            suffix: format!("{SEPARATOR}{}", cluster.name()).into(),
            cluster: cluster.clone(),
            seal,
            patience,
            ask: OnceCell::new(),
            proofs: Proofs::default(),
            websockets: TaskTracker::new(),
            leaving: watch::Sender::default(),
            complaints: Rarely::default(),
        })
    }

    /// The id of a session of this server.
    pub(super) fn id_of(&self, session: SessionKey) -> String {
        format!("{session}{}", self.suffix)
    }

    /// The key in the id of a session of this server.
    pub(super) fn own<'a>(&self, id: &'a str) -> Option<&'a str> {
        id.strip_suffix(&*self.suffix)
    }

    /// The other server that has a session, to whom this request is to be passed on; none if this one has
    /// it. What another server has passed on to this one goes no further.
    pub(super) fn other(&self, id: &str, request: &Request) -> Result<Option<Box<str>>, Refusal> {
        let checked = self.proofs.check(&self.seal, self.cluster.name(), request);
        let was_passed_on = checked.map_err(|forged| {
            self.complaints
                .say(|| tracing::warn!("a request was not passed on by a server: {forged}"));
            Refusal::Forged
        })?;
        let Some((_, server)) = id.split_once(SEPARATOR) else {
            return Ok(None);
        };
        let is_name = server.len() == NAME_DIGITS
            && server
                .bytes()
                .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        match is_name && server != self.cluster.name() {
            true if was_passed_on => Err(Refusal::UnknownSession),
            is_other => Ok(is_other.then(|| server.into())),
        }
    }

    /// Passes a request on to the server that has its session. If that is gone, so is the session.
    pub(super) async fn pass_on(
        &self,
        server: &str,
        request: Request,
    ) -> Result<Response, Refusal> {
        let passed_on = self.try_pass_on(server, request).await;
        self.cluster.passed_on.count(passed_on.is_ok());
        passed_on
    }

    async fn try_pass_on(&self, server: &str, mut request: Request) -> Result<Response, Refusal> {
        let address = self.cluster.address_of(server).await;
        let address = address.ok_or(Refusal::UnknownSession)?;
        let upgrade = wanted::is_wanted(request.headers());
        let upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
        let request = self.passed_on(server, &address, request, upgrade.is_some())?;
        let answer = self.ask().await(request);
        let reason = match timeout(self.patience, answer).await {
            Ok(Ok(answer)) => return Ok(self.answer(answer, upgrade)),
            Ok(Err(error)) => http_client::in_words(&error),
            Err(_) => "it does not answer".to_owned(),
        };
        self.complaints.say(|| {
            tracing::warn!(
                reason,
                address = address.as_str(),
                "a request cannot be passed on to the server that has its session"
            );
        });
        Err(Refusal::UnknownSession)
    }

    /// The request for the other server.
    fn passed_on(
        &self,
        server: &str,
        address: &ServerAddress,
        request: Request,
        is_upgrade: bool,
    ) -> Result<Request, Refusal> {
        let (
            Parts {
                method,
                uri,
                mut headers,
                ..
            },
            body,
        ) = request.into_parts();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        forget(&mut headers, &OF_CONNECTION);
        if is_upgrade {
            set_upgrade(&mut headers);
        }
        let proof = proof::prove(&self.seal, server, &method, path);
        headers.insert(HEADER, proof);
        let to = format!("{}{path}", address.as_str());
        let to: Uri = to.parse().map_err(|_| Refusal::BadRequest)?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = to;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What the client gets.
    fn answer(&self, mut answer: Response<Incoming>, upgrade: Option<OnUpgrade>) -> Response {
        let is_accepted = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let near = upgrade.filter(|_| is_accepted);
        let both = near.map(|near| (near, hyper::upgrade::on(&mut answer)));
        let (head, body) = answer.into_parts();
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        let headers = response.headers_mut();
        forget(headers, &OF_CONNECTION);
        forget(headers, &OF_SERVER);
        if let Some((near, far)) = both {
            set_upgrade(headers);
            let leaving = self.leaving.subscribe();
            let cluster = self.cluster.clone();
            self.websockets.spawn(async move {
                let _carried = cluster.passed_on.carry();
                tokio::select! {
                    () = join(near, far) => {}
                    () = left(leaving) => {}
                }
            });
            *response.body_mut() = Body::empty();
        }
        response
    }

    /// How many websockets are passed on.
    pub(crate) fn websockets(&self) -> usize {
        self.websockets.len()
    }

    /// The server leaves: websockets that it passes on end over this time.
    pub(crate) fn leave(&self, over: Duration) {
        self.leaving.send_replace(Some(over));
    }

    async fn ask(&self) -> &Ask {
        let make = async || {
            let mut tcp = HttpConnector::new();
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(CONNECTED_WITHIN));
            tcp.set_keepalive(Some(KEEPALIVE));
            tcp.set_keepalive_interval(Some(KEEPALIVE / KEEPALIVE_PROBES));
            tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
            // The scheme is told by who puts TLS over it.
            tcp.enforce_http(false);
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(http_client::tls_config().await)
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp);
            let client: Client<_, Body> = Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .build(connector);
            let ask: Ask = Box::new(move |request| client.request(request).boxed());
            ask
        };
        self.ask.get_or_init(make).await
    }
}

fn forget(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

fn set_upgrade(headers: &mut HeaderMap) {
    let text = http::HeaderValue::from_static;
    headers.insert(CONNECTION, text("Upgrade"));
    headers.insert(UPGRADE, text("websocket"));
}

/// Hands bytes over between a client's websocket and a server's, until both sides have closed.
async fn join(near: OnUpgrade, far: OnUpgrade) {
    let Ok((near, far)) = tokio::try_join!(near, far) else {
        return;
    };
    let (mut from_client, mut to_client) = split(TokioIo::new(near));
    let (mut from_server, mut to_server) = split(TokioIo::new(far));
    // What fails ends the other direction, too, as the end does.
    let up = async {
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let _ = tokio::select! {
        () = &mut up => timeout(CLOSED_WITHIN, down).await,
        () = &mut down => timeout(CLOSED_WITHIN, up).await,
    };
}

/// Waits until the server leaves, and then for a moment within its time, so that not all go at once.
async fn left(mut leaving: watch::Receiver<Option<Duration>>) {
    let over = leaving.wait_for(Option::is_some).await.map(|over| *over);
    let over = over.ok().flatten().unwrap_or_default();
    sleep(over.mul_f64(rand::random())).await;
}
