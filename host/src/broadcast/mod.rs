//! Reaching the clients of this server and, in a cluster, of all: what is emitted, kept and changed goes
//! through here.
//!
//! On a server on its own a change is performed at once (`perform.rs`). In a cluster it goes to the stream, and is
//! performed when it is read there (`apply.rs`).

mod apply;
mod perform;
mod presence;
mod primitives;
mod serve;

use std::{borrow::Cow, sync::Arc};

pub use self::primitives::Notification;
pub(crate) use self::primitives::{NOTIFICATION, PAYMENT_UPDATE};
pub use crate::transport::Delivery;
use crate::{
    cluster::{self, Change, Cluster},
    connection::Connections,
    history::{History, Kept},
    message::Message,
    namespace::MAIN_NAMESPACE,
    native,
    presence::Presence,
    telemetry::{Context, Span, Tracer},
    transport::{Adapter, Namespaces, Selection},
};

/// What an entry names instead of a namespace that is for all of them.
const EVERY_NAMESPACE: &str = "*";

/// Pushes to the clients of the main namespace, and to those of native endpoints' main namespaces.
#[derive(Clone)]
pub struct Broadcast {
    namespaces: Arc<Namespaces>,
    connections: Arc<Connections>,
    native: Arc<native::Clients>,
    history: Arc<History>,
    /// What goes to all servers of a cluster; none on a server on its own.
    cluster: Option<Arc<Cluster>>,
    /// Who begins traces; none if nobody does.
    tracer: Option<Arc<Tracer>>,
    /// What it is a part of that is sent.
    context: Context,
}

impl Broadcast {
    /// Over the sockets of `namespaces`.
    pub(crate) fn new(
        namespaces: Arc<Namespaces>,
        history: Arc<History>,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        Self {
            namespaces,
            connections: Arc::default(),
            native: Arc::default(),
            history,
            cluster,
            tracer: None,
            context: Context::default(),
        }
    }

    /// The same, with who begins traces.
    pub(crate) fn traced_by(self, tracer: Option<Arc<Tracer>>) -> Self {
        Self { tracer, ..self }
    }

    /// Who begins traces; none if nobody does.
    pub(crate) fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.tracer.as_ref()
    }

    /// The same, for what is sent as a part of this span.
    pub(crate) fn within(&self, span: &Span) -> Cow<'_, Self> {
        match span.is_none() {
            true => Cow::Borrowed(self),
            false => Cow::Owned(self.within_context(span.context())),
        }
    }

    /// The same, for what is sent in this context.
    pub(crate) fn within_context(&self, context: Context) -> Self {
        Self {
            context,
            ..self.clone()
        }
    }

    /// Begins the span of an event on its way to clients of this namespace.
    pub(crate) fn sends(&self, namespace: &str, event: &str) -> Span {
        Span::sends(&self.context, namespace, event)
    }

    /// Emits an event to sockets of a namespace, on all servers of a cluster; how many got it is not known
    /// there. Nobody is in a namespace that is not open; `adapter` is its, if that is known.
    pub(crate) fn emit(
        &self,
        adapter: Option<&Adapter>,
        namespace: &str,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let span = self.sends(namespace, event);
        if self.cluster.is_some() {
            let change = Change::Emit {
                event: event.to_owned(),
                message,
                volatile,
                sender: span.id(),
            };
            self.change(namespace, to, change);
            return Delivery::default();
        }
        let delivery = match adapter {
            Some(adapter) => adapter.broadcast(None, to, event, message, volatile),
            None => self
                .namespaces
                .get(namespace)
                .map_or_else(Delivery::default, |adapter| {
                    adapter.broadcast(None, to, event, message, volatile)
                }),
        };
        span.reached(delivery.delivered);
        delivery
    }

    /// Keeps an event in the history, of all servers of a cluster.
    pub(crate) fn keep(&self, topic: &str, event: &str, message: &Message) {
        if self.cluster.is_none() {
            return self.history.keep(topic, event, message);
        }
        let kept = Kept {
            id: rand::random(),
            topic: topic.to_owned(),
            at: self.history.now(),
            event: event.to_owned(),
            message: message.clone(),
        };
        self.change(MAIN_NAMESPACE, Selection::default(), Change::Keep(kept));
    }

    /// Changes sockets of a namespace, on all servers of a cluster.
    pub(crate) fn change(&self, namespace: &str, to: Selection, change: Change) {
        match &self.cluster {
            Some(cluster) => {
                let perform = |to, change| self.perform_alone(namespace, to, change);
                cluster.send(namespace, to, change, perform);
            }
            None => self.perform(None, namespace, to, change),
        }
    }

    /// How many clients are connected, to all servers of a cluster.
    pub fn connected_clients_count(&self) -> usize {
        let elsewhere = self.cluster.as_deref().map(Cluster::clients_elsewhere);
        self.clients_here() + elsewhere.unwrap_or_default()
    }

    /// How many clients are connected to this server.
    pub fn clients_here(&self) -> usize {
        self.connections.clients() + self.native.count()
    }

    /// The clients of native endpoints.
    pub(crate) fn native(&self) -> &Arc<native::Clients> {
        &self.native
    }

    /// Events that were kept.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Who is present in rooms.
    pub(crate) fn presence(&self) -> &Presence {
        self.namespaces.presence()
    }

    /// A namespace that is open.
    pub(crate) fn namespace(&self, path: &str) -> Option<Arc<Adapter>> {
        self.namespaces.get(path)
    }

    /// Whether the host serves a namespace itself.
    pub(crate) fn is_hosts(&self, path: &str) -> bool {
        self.namespaces.is_hosts(path)
    }

    /// How many attachments an event may have.
    pub(crate) fn max_attachments(&self) -> usize {
        self.namespaces.sessions().policy.max_attachments
    }

    /// The live connections.
    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Whether this server is one of a cluster.
    pub(crate) fn is_clustered(&self) -> bool {
        self.cluster.is_some()
    }

    /// The other servers of a cluster, if this server is in one.
    pub(crate) fn others(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// Whether more may be sent to the servers of a cluster.
    pub(crate) fn check_room(&self) -> Result<(), cluster::Full> {
        self.cluster
            .as_ref()
            .map_or(Ok(()), |cluster| cluster.check_room())
    }

    /// How the cluster stands, if this server is in one.
    pub(crate) fn cluster(&self) -> Option<cluster::Sample> {
        self.cluster.as_ref().map(|cluster| cluster.sample())
    }
}
