//! Requests to other servers: one client for all plugins, which keeps connections open. A [`Destination`]
//! is where a request goes, a [`UrlPattern`] is what grants say of it, [`Reach`] which addresses it may
//! come to.

mod addresses;
mod canned;
mod destination;
mod headers;
mod pattern;
mod resolver;
mod tls;

use std::{collections::HashSet, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::OnceCell, time::timeout};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use addresses::Reach;
pub(crate) use canned::{Canned, Sent};
pub(crate) use destination::{Destination, Host};
pub(crate) use headers::is_of_host;
pub(crate) use pattern::{InvalidPattern, UrlPattern};
pub(crate) use tls::config as tls_config;

use resolver::{Lookups, Resolver, Share, Unresolved};

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(20);

/// How many such connections are kept to one server.
const MAX_IDLE: usize = 8;

/// To how many servers connections are kept. A plugin that talks to more, as its clients say, must not
/// leave the process without files.
const MAX_SERVERS: usize = 64;

/// How large the head of a response may be.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How many headers it may have.
const MAX_HEADERS: usize = 128;

type Pooled = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Sends requests, on the runtime that it was made on, whoever asks for them.
#[derive(Clone)]
pub struct HttpClient {
    way: Way,
    share: Share,
}

/// Where requests go.
#[derive(Clone)]
enum Way {
    /// To servers.
    Network(Arc<Inner>),
    /// Nowhere.
    Canned(Arc<Canned>),
}

struct Inner {
    runtime: Handle,
    lookups: Lookups,
    /// Made by the first request: to read the system's certificates takes a while.
    pools: OnceCell<Pools>,
}

/// Connections are kept apart by what was looked at when they were made: one to an address of this
/// machine is not for who may talk to the internet only.
struct Pools {
    public: Pool,
    private: Pool,
}

/// Open connections, to a bounded number of servers.
struct Pool {
    connector: HttpsConnector<HttpConnector<Resolver>>,
    current: Mutex<Current>,
}

struct Current {
    client: Pooled,
    servers: HashSet<Server>,
}

/// What a connection is for.
type Server = (Option<Scheme>, Option<Authority>);

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it was sent.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The name has no address that may be reached.
    #[error("none of its addresses may be reached")]
    OutOfReach,
    /// The answer is larger than it may be.
    #[error("the answer is too large")]
    TooLarge,
    /// There is no connection, or it ended before the answer did.
    #[error("{0}")]
    Broken(String),
}

impl HttpClient {
    /// A client whose connections live on the current runtime.
    pub fn on_this_runtime() -> Self {
        Self::with_lookups(Lookups::of_system())
    }

    fn with_lookups(lookups: Lookups) -> Self {
        let inner = Inner {
            runtime: Handle::current(),
            lookups,
            pools: OnceCell::new(),
        };
        Self {
            way: Way::Network(Arc::new(inner)),
            share: Share::new(),
        }
    }

    /// A client whose requests go nowhere, and have these answers.
    pub(crate) fn canned(answers: Arc<Canned>) -> Self {
        Self {
            way: Way::Canned(answers),
            share: Share::new(),
        }
    }

    /// The same client for one more plugin, which has its own share of what all have together.
    pub fn of_plugin(&self) -> Self {
        Self {
            way: self.way.clone(),
            share: Share::new(),
        }
    }

    /// Sends a request to a server within reach and takes an answer of at most so many bytes. The
    /// request ends when this is dropped.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        reach: Reach,
        max_bytes: usize,
    ) -> Result<Answer, NoAnswer> {
        let inner = match &self.way {
            Way::Network(inner) => inner.clone(),
            Way::Canned(canned) => return canned.answer(request, max_bytes).await,
        };
        let runtime = inner.runtime.clone();
        let sending = async move {
            let response = inner.request(request, reach).await?;
            read(response, max_bytes).await
        };
        self.on(&runtime, sending).await
    }

    /// The same for who goes by the status: a body that is too large, breaks off or does not come in time is none.
    /// `patience` is for what is before it, and again for the body.
    pub(crate) async fn send_for_status(
        &self,
        request: Request<Full<Bytes>>,
        reach: Reach,
        max_bytes: usize,
        patience: Duration,
    ) -> Result<Answer, NoAnswer> {
        let inner = match &self.way {
            Way::Network(inner) => inner.clone(),
            Way::Canned(canned) => return canned.answer(request, max_bytes).await,
        };
        let runtime = inner.runtime.clone();
        let sending = async move {
            let late = |_| NoAnswer::Broken(format!("there was no answer in {patience:?}"));
            let response = timeout(patience, inner.request(request, reach)).await;
            let response = response.map_err(late)??;
            let (status, headers) = (response.status(), response.headers().clone());
            let read = timeout(patience, read(response, max_bytes)).await;
            let body = match read {
                Ok(Ok(whole)) => whole.body,
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            Ok(Answer {
                status,
                headers,
                body,
            })
        };
        self.on(&runtime, sending).await
    }

    /// Whoever asks may run on a runtime of its own, where guests keep the threads.
    async fn on(
        &self,
        runtime: &Handle,
        sending: impl Future<Output = Result<Answer, NoAnswer>> + Send + 'static,
    ) -> Result<Answer, NoAnswer> {
        let sending = runtime.spawn(self.share.clone().scope(sending));
        let sent = AbortOnDropHandle::new(sending).await;
        sent.unwrap_or_else(|error| Err(NoAnswer::Broken(error.to_string())))
    }
}

impl Inner {
    async fn request(
        self: &Arc<Self>,
        request: Request<Full<Bytes>>,
        reach: Reach,
    ) -> Result<Response<Incoming>, NoAnswer> {
        self.pools().await?.of(reach).request(request).await
    }

    async fn pools(self: &Arc<Self>) -> Result<&Pools, NoAnswer> {
        if self.pools.get().is_none() {
            let inner = self.clone();
            // In a task that goes on: a request that is given up meanwhile must not have the next one
            // begin again.
            let making = tokio::spawn(async move {
                inner.pools.get_or_init(|| Pools::new(&inner.lookups)).await;
            });
            making
                .await
                .map_err(|error| NoAnswer::Broken(error.to_string()))?;
        }
        Ok(self.pools.get().expect("they have been made"))
    }
}

impl Pools {
    async fn new(lookups: &Lookups) -> Self {
        let tls = tls::config().await;
        let pool = |reach| Pool::new(Resolver::new(lookups.clone(), reach), tls.clone());
        Self {
            public: pool(Reach::Public),
            private: pool(Reach::Private),
        }
    }

    fn of(&self, reach: Reach) -> &Pool {
        match reach {
            Reach::Public => &self.public,
            Reach::Private => &self.private,
        }
    }
}

impl Pool {
    fn new(resolver: Resolver, tls: rustls::ClientConfig) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.set_nodelay(true);
        // The scheme is told by who puts TLS over it.
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let current = Current {
            client: client(&connector),
            servers: HashSet::new(),
        };
        Self {
            connector,
            current: Mutex::new(current),
        }
    }

    async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoAnswer> {
        let client = self.client_for(request.uri());
        client.request(request).await.map_err(NoAnswer::of)
    }

    /// A client that keeps the connection for the next request. One server too many begins afresh: the
    /// connections that are in use end with their requests, and the others at once.
    fn client_for(&self, uri: &Uri) -> Pooled {
        let server = (uri.scheme().cloned(), uri.authority().cloned());
        let mut current = self.current.lock();
        let Current { client, servers } = &mut *current;
        if servers.len() == MAX_SERVERS && !servers.contains(&server) {
            servers.clear();
            *client = self::client(&self.connector);
        }
        servers.insert(server);
        client.clone()
    }
}

fn client(connector: &HttpsConnector<HttpConnector<Resolver>>) -> Pooled {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http1_max_headers(MAX_HEADERS)
        .build(connector.clone())
}

/// Takes in an answer, within its bound, whatever it says of its size.
async fn read(response: Response<Incoming>, max_bytes: usize) -> Result<Answer, NoAnswer> {
    let (head, mut incoming) = response.into_parts();
    let head_bytes = header_bytes(&head.headers);
    let left = max_bytes
        .checked_sub(head_bytes)
        .ok_or(NoAnswer::TooLarge)?;
    if incoming.size_hint().lower() > left as u64 {
        return Err(NoAnswer::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| NoAnswer::Broken(in_words(&error)))?;
        // Trailers are left out: no plugin was promised any.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if body.len() + data.len() > left {
            return Err(NoAnswer::TooLarge);
        }
        body.extend_from_slice(&data);
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

impl Answer {
    /// How large it is, in bytes.
    pub fn bytes(&self) -> usize {
        header_bytes(&self.headers) + self.body.len()
    }
}

fn header_bytes(headers: &HeaderMap) -> usize {
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    sizes.sum()
}

impl NoAnswer {
    fn of(error: hyper_util::client::legacy::Error) -> Self {
        let is_out_of_reach = |cause: &(dyn Error + 'static)| {
            matches!(cause.downcast_ref(), Some(Unresolved::OutOfReach))
        };
        if causes(&error).any(is_out_of_reach) {
            return Self::OutOfReach;
        }
        Self::Broken(in_words(&error))
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The reason below all that wraps it.
pub(crate) fn in_words(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests;
