//! From HTTP to HTTPS: a port where every request is sent to the one with TLS.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        StatusCode, Uri,
        header::{AUTHORIZATION, HOST, LOCATION},
        uri::Authority,
    },
    middleware,
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Inherited, StartError,
    addresses::{listen_error, resolve},
    port::Port,
};
use crate::{
    config::{self, Listen},
    host_header,
    tasks::Task,
    tls,
    transport::{Bounds, Connections, Listener, serve},
};

/// The port that URLs with `https` leave out.
const HTTPS_PORT: u16 = 443;

/// A port that is bound, and refuses connections until it listens.
pub(super) struct Redirect {
    listen: Listen,
    socket: Port,
    port: Option<u16>,
    identity: tls::Current,
}

/// It listens.
pub(super) struct Redirecting {
    listener: Listener,
    router: Router,
}

impl Redirect {
    /// Binds it where one is configured.
    pub(super) async fn bind(
        config: &config::Tls,
        identity: &tls::Current,
        inherited: &mut Inherited,
    ) -> Result<Option<Self>, StartError> {
        let Some(listen) = &config.redirect_from else {
            return Ok(None);
        };
        let bound = Port::bind(&resolve(listen).await?, inherited);
        Ok(Some(Self {
            listen: listen.clone(),
            socket: bound.map_err(|source| listen_error(listen, source))?,
            port: config.redirect_port,
            identity: identity.clone(),
        }))
    }

    /// Listens, for the server at `address`. Its connections are among those that `bounds` allow.
    pub(super) fn listen(
        self,
        address: SocketAddr,
        bounds: Bounds,
    ) -> Result<Redirecting, StartError> {
        let listening = self.socket.listen();
        let tcp = listening.map_err(|source| listen_error(&self.listen, source))?;
        let target = Arc::new(Target {
            port: self.port.unwrap_or(address.port()),
            identity: self.identity,
        });
        let router = Router::new()
            .fallback(redirect)
            .with_state(target)
            .layer(middleware::from_fn(host_header::require));
        Ok(Redirecting {
            listener: Listener::new(tcp, bounds, None),
            router,
        })
    }
}

impl Redirecting {
    /// The socket that clients come to, as long as it is open.
    pub(super) fn socket(&self) -> Weak<TcpListener> {
        self.listener.socket()
    }

    /// The task that redirects. When it ends, the port is closed.
    pub(super) fn task(
        self,
        request_timeout: Duration,
        accepting: CancellationToken,
        connections: Connections,
    ) -> impl Task {
        Redirects {
            accepting,
            listener: self.listener,
            router: self.router,
            request_timeout,
            connections,
        }
    }
}

struct Redirects {
    accepting: CancellationToken,
    listener: Listener,
    router: Router,
    request_timeout: Duration,
    connections: Connections,
}

impl Task for Redirects {
    const NAME: &'static str = "redirect";

    async fn run(&mut self, stop: &CancellationToken) {
        let Self {
            accepting,
            listener,
            router,
            request_timeout,
            connections,
        } = self;
        let ends = (&*accepting, stop);
        serve(listener, router, *request_timeout, ends, connections).await;
        stop.cancelled().await;
    }
}

/// Where requests are sent to.
struct Target {
    port: u16,
    identity: tls::Current,
}

impl Target {
    /// The same place by HTTPS; none if no certificate is for its host. So nobody is sent to where a
    /// forged header says.
    fn of(&self, host: &str, uri: &Uri) -> Option<String> {
        let authority: Authority = host.parse().ok()?;
        let host = authority.host();
        if !self.identity.load().names.has(host) {
            return None;
        }
        let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
        Some(match self.port {
            HTTPS_PORT => format!("https://{host}{rest}"),
            port => format!("https://{host}:{port}{rest}"),
        })
    }
}

async fn redirect(State(target): State<Arc<Target>>, request: Request) -> Response {
    let headers = request.headers();
    if headers.contains_key(AUTHORIZATION) {
        // A client that is led on would go on sending its key where everybody can read it.
        let words = "what this request carries to show who sends it has been sent in clear: use https, and replace it\n";
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match host.and_then(|host| target.of(host, request.uri())) {
        Some(location) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response(),
        None => {
            let words = "no certificate of this server is for this host\n";
            (StatusCode::MISDIRECTED_REQUEST, words).into_response()
        }
    }
}
