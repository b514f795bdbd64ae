//! What an embedder builds a native endpoint with.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    sync::Arc,
};

use socketioxide::{SocketIo, adapter::LocalAdapter, handler::ConnectHandler};

use super::{Front, Host, carrier::Carrier, check::Checked};
use crate::{broadcast::Broadcast, config, namespace::is_namespace, transport::Sessions};

/// Adds an embedder's handlers to an endpoint.
pub(crate) type Setup = Box<dyn FnOnce(&Endpoint) + Send>;

/// A Socket.IO endpoint of its own, beside that of the plugins, for socketioxide's handlers and
/// extractors.
///
/// The host checks a client's token before any of the handlers is asked, and keeps its sockets in the rooms
/// of its user and roles. Handlers find the user with the extractor `Extension<User>`, or
/// `MaybeExtension<User>` where clients may be anonymous ([`User`](crate::user::User)), and the client's
/// address with `HttpExtension<IpAddr>`.
pub struct Endpoint {
    io: SocketIo,
    host: Arc<Host>,
    broadcast: Broadcast,
    namespaces: RefCell<HashSet<String>>,
    /// The first thing that is wrong with it.
    error: Cell<Option<EndpointError>>,
}

/// Why a native endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// It cannot be asked for.
    #[error("a path is like \"/native.io\", without a slash at its end")]
    Path,
    /// Clients would get one or the other.
    #[error("that is the path of the plugins' endpoint ([socket] path)")]
    PathOfPlugins,
    /// As above.
    #[error("there are two with this path")]
    SamePath,
    /// No client can ask for it.
    #[error("no client can ask for the namespace {0:?}: a name is like \"/chat\"")]
    Namespace(String),
    /// The former handler would be gone.
    #[error("the namespace {0:?} is added twice")]
    SameNamespace(String),
    /// Its clients would not be checked.
    #[error(
        "the namespace {0:?} is open to everybody: add it by Endpoint::ns, not by SocketIo::ns"
    )]
    Unchecked(String),
}

impl Endpoint {
    /// Opens a namespace. Whom the host lets in, `handler` gets, with its middlewares if it has some.
    ///
    /// What a handler registers with [`on`](socketioxide::socket::Socket::on) is there shortly after the
    /// client knows that it is connected, and what a middleware registers before that: no event is missed.
    pub fn ns<H, T>(&self, namespace: impl Into<String>, handler: H)
    where
        H: ConnectHandler<LocalAdapter, T>,
        T: Send + Sync + 'static,
    {
        let namespace = namespace.into();
        if !is_namespace(&namespace) || namespace.contains('*') {
            self.refuse(EndpointError::Namespace(namespace));
            return;
        }
        if !self.namespaces.borrow_mut().insert(namespace.clone()) {
            self.refuse(EndpointError::SameNamespace(namespace));
            return;
        }
        let host = self.host.clone();
        self.io.ns(namespace, Checked { handler, host });
    }

    /// The endpoint's sockets, to emit to and to select from. Namespaces are opened by
    /// [`ns`](Self::ns) only: one that is opened here has nobody checked.
    pub fn io(&self) -> &SocketIo {
        &self.io
    }

    /// The four primitives, which reach clients of all endpoints.
    pub fn broadcast(&self) -> &Broadcast {
        &self.broadcast
    }

    /// Builds an endpoint at `path`.
    pub(crate) fn build(
        path: &str,
        setup: Setup,
        host: &Arc<Host>,
        broadcast: &Broadcast,
        sessions: &Arc<Sessions>,
        config: &config::Socket,
    ) -> Result<Arc<Front>, EndpointError> {
        if !config::Socket::is_path(path) {
            return Err(EndpointError::Path);
        }
        if path == config.path.trim_end_matches('/') {
            return Err(EndpointError::PathOfPlugins);
        }
        let (carrier, io) = Carrier::new(path, config);
        let front = Front::new(io.clone(), carrier, sessions.clone());
        let endpoint = Self {
            io,
            host: host.clone(),
            broadcast: broadcast.clone(),
            namespaces: RefCell::default(),
            error: Cell::default(),
        };
        setup(&endpoint);
        endpoint.check()?;
        Ok(Arc::new(front))
    }

    fn refuse(&self, error: EndpointError) {
        let first = self.error.take();
        self.error.set(Some(first.unwrap_or(error)));
    }

    fn check(self) -> Result<(), EndpointError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let checked = self.namespaces.into_inner();
        let is_checked = |path: &str| checked.contains(path);
        let opened = self.io.nsps();
        let mut opened = opened.iter().map(|namespace| namespace.ns_path());
        match opened.find(|path| !is_checked(path)) {
            Some(path) => Err(EndpointError::Unchecked(path.to_owned())),
            None => Ok(()),
        }
    }
}
