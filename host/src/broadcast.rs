//! The four broadcast primitives, once for plugins, backends and Rust alike.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::transport::Delivery;
use crate::{
    clock,
    cluster::{self, Apply, Change, Cluster, Described, Entry, EntryId, Found, Serve, Want},
    connection::{Connection, Connections},
    history::{History, Kept},
    message::{Arguments, Message},
    namespace::MAIN_NAMESPACE,
    native,
    presence::{self, Lost, News, Presence},
    reserved::{PAYMENTS_ROOM, is_reserved},
    telemetry::{Context, Span, Tracer},
    transport::{Adapter, Broadcasted, Namespaces, Selection},
    user::{UserId, role_room},
};

/// What an entry names instead of a namespace that is for all of them.
const EVERY_NAMESPACE: &str = "*";

/// The event that tells of a payment.
pub(crate) const PAYMENT_UPDATE: &str = "payment_update";

/// The event that tells a user something.
pub(crate) const NOTIFICATION: &str = "notification";

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

/// The fields of a notification: a JSON object, values as they were written.
#[derive(Debug, Clone, Serialize)]
pub struct Notification(IndexMap<String, Box<RawValue>>);

impl Notification {
    /// From the JSON text of an object.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self)
    }
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

    /// Emits `payment_update` with `{"type":"payment_update","data":…,"timestamp":…}` to room
    /// `payments`.
    pub fn broadcast_payment_update(&self, data: &RawValue) -> Delivery {
        #[derive(Serialize)]
        struct PaymentUpdate<'a> {
            r#type: &'static str,
            data: &'a RawValue,
            timestamp: String,
        }
        let update = PaymentUpdate {
            r#type: PAYMENT_UPDATE,
            data,
            timestamp: timestamp(),
        };
        self.push(PAYMENTS_ROOM.to_owned(), PAYMENT_UPDATE, &update)
    }

    /// Emits `notification` with its fields and a timestamp to room `user:ID`.
    pub fn send_user_notification(&self, user: &UserId, notification: Notification) -> Delivery {
        let Notification(mut fields) = notification;
        // As in `{ ...notification, timestamp }`: the server's clock wins.
        fields.insert("timestamp".to_owned(), raw(&timestamp()));
        self.push(user.room(), NOTIFICATION, &fields)
    }

    /// Emits `event` with `data` as its argument to room `role:ROLE`.
    pub fn broadcast_to_role(&self, role: &str, event: &str, data: &RawValue) -> Delivery {
        self.push(role_room(role), event, data)
    }

    /// Ends all connections of a user, to whatever namespace, and to `close` them the transports of
    /// its clients, too. Those that dropped are not given back to it any more. Returns how many it
    /// ended here.
    pub fn disconnect_user(&self, user: &UserId, close: bool) -> usize {
        let ended = self.disconnect_here(user, close);
        if let Some(cluster) = &self.cluster {
            let (room, change) = (Selection::room(user.room()), Change::Disconnect { close });
            // Node's servers know their namespaces by their names.
            for adapter in self.namespaces.all() {
                cluster.send(adapter.namespace(), room.clone(), change.clone(), |_, _| {});
            }
            cluster.send(EVERY_NAMESPACE, room, change, |_, _| {});
        }
        ended
    }

    fn disconnect_here(&self, user: &UserId, close: bool) -> usize {
        let room = Selection::room(user.room());
        let its = |adapter: Arc<Adapter>| {
            let clients = adapter.selected(&room);
            self.connections.of(&clients, adapter.namespace())
        };
        let its: Vec<_> = self.namespaces.all().into_iter().flat_map(its).collect();
        for connection in &its {
            self.connections.disconnect(connection, close);
        }
        // Behind that: one may have dropped meanwhile.
        self.namespaces.recovery().forget_user(user);
        its.len() + self.native.disconnect(&user.room(), close)
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

    /// Tells rooms who came and went, until `stop` or until this server has left its cluster.
    pub(crate) async fn tell_presence(&self, stop: &CancellationToken) {
        let Some(cluster) = &self.cluster else {
            let emit = |namespace: &str, to, message| {
                self.emit(None, namespace, to, presence::EVENT, message, false);
            };
            return self.presence().tell(emit, stop).await;
        };
        let emit = |namespace: &str, to, message| {
            self.change(namespace, to, Change::Tell(message));
        };
        let send = |news| self.send_news(news);
        tokio::select! {
            () = self.presence().tell_together(emit, send) => {}
            () = cluster.closed() => {}
        }
    }

    /// Sends what was last said of who is present.
    pub(crate) fn send_presence(&self) {
        let said = self.presence().take_said();
        said.into_iter().for_each(|news| self.send_news(news));
    }

    fn send_news(&self, news: News) {
        let nobody = Selection::default();
        self.change(MAIN_NAMESPACE, nobody, Change::Presence(news));
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

    /// Changes sockets of a namespace that are here while the cluster's Redis is away.
    fn perform_alone(&self, namespace: &str, to: Selection, change: Change) {
        match change {
            Change::Emit {
                event,
                message,
                volatile,
                sender,
            } => {
                let _span = Span::delivers(self.tracer(), sender, namespace, &event);
                if let Some(adapter) = self.namespaces.get(namespace) {
                    adapter.broadcast_alone(to, &event, message, volatile);
                }
            }
            Change::Tell(message) => {
                let new = self.presence().hear_told_alone(namespace, &message);
                if let (Some(message), Some(adapter)) = (new, self.namespaces.get(namespace)) {
                    adapter.broadcast_alone(to, presence::EVENT, message, false);
                }
            }
            Change::Keep(kept) => self.history.keep_ahead(kept),
            Change::Presence(news) => self.presence().do_alone(&news),
            change => self.perform(None, namespace, to, change),
        }
    }

    /// Changes sockets of a namespace that are here; of a cluster, as an `entry` of its stream says.
    pub(crate) fn perform(
        &self,
        entry: Option<EntryId>,
        namespace: &str,
        to: Selection,
        change: Change,
    ) {
        let change = match change {
            Change::Keep(kept) => {
                // On a server on its own it is kept at once.
                if let Some(id) = entry {
                    self.history.keep_entry(id, kept);
                }
                return;
            }
            Change::Presence(news) => {
                let lost = self.presence().hear(news);
                lost.iter().for_each(|lost| self.begin_anew(lost));
                return;
            }
            Change::Tell(message) => match self.presence().hear_told(namespace, &message) {
                Some(message) => Change::Tell(message),
                None => return,
            },
            change => change,
        };
        let Some(adapter) = self.namespaces.get(namespace) else {
            if let Some(id) = entry {
                self.keep_unopened(id, namespace, to, change);
            }
            return;
        };
        let selected = |to| self.connections.of(&adapter.selected(to), namespace);
        match change {
            Change::Emit {
                event,
                message,
                volatile,
                sender,
            } => {
                let span = Span::delivers(self.tracer(), sender, namespace, &event);
                let delivery = adapter.broadcast(entry, to, &event, message, volatile);
                span.reached(delivery.delivered);
            }
            Change::Tell(message) => {
                adapter.broadcast(entry, to, presence::EVENT, message, false);
            }
            Change::Keep(_) | Change::Presence(_) => {}
            Change::Join(rooms) => join(&selected(&to), &rooms),
            Change::Leave(rooms) => {
                let leave = |it: &Arc<Connection>| it.leave(rooms.clone());
                selected(&to).iter().for_each(leave);
            }
            Change::Release => {
                let end = |it: &Arc<Connection>| it.end_transport();
                selected(&to).iter().for_each(end);
            }
            Change::Disconnect { close } => {
                let end = |it: &Arc<Connection>| self.connections.disconnect(it, close);
                selected(&to).iter().for_each(end);
            }
        }
    }

    /// Keeps what is sent in a namespace that nobody has opened here, for clients that come back to this server.
    fn keep_unopened(&self, id: EntryId, namespace: &str, to: Selection, change: Change) {
        let Some(broadcasted) = broadcasted(id, to, change) else {
            return;
        };
        // It was opened at this moment: somebody may be in it.
        if let Some((adapter, it)) = self.namespaces.keep_unopened(namespace, broadcasted) {
            adapter.broadcast(Some(it.id), it.to, &it.event, it.message, false);
        }
    }

    /// Keeps an entry that is not passed on to those who are here, if there is something to keep.
    fn keep_read(&self, id: EntryId, namespace: &str, to: Selection, change: Option<Change>) {
        self.namespaces.recovery().has_read(id);
        self.history.has_read(id);
        let broadcasted = match change {
            Some(Change::Keep(kept)) => return self.history.keep_entry(id, kept),
            change => change.and_then(|change| broadcasted(id, to, change)),
        };
        let Some(broadcasted) = broadcasted else {
            return;
        };
        let known = match self.namespaces.get(namespace) {
            Some(adapter) => Some((adapter, broadcasted)),
            None => self.namespaces.keep_unopened(namespace, broadcasted),
        };
        if let Some((adapter, it)) = known {
            adapter.remember(it.id, it.to, &it.event, it.message);
        }
    }

    /// Others have taken this server for gone, and a connection of its for lost: its client connects anew.
    fn begin_anew(&self, lost: &Lost) {
        let Some(adapter) = self.namespaces.get(&lost.namespace) else {
            return;
        };
        let its = Selection {
            sockets: vec![lost.connection.clone()],
            ..Selection::default()
        };
        let its = self
            .connections
            .of(&adapter.selected(&its), &lost.namespace);
        its.iter().for_each(|connection| connection.end_transport());
    }

    fn push<T: Serialize + ?Sized>(&self, room: String, event: &str, argument: &T) -> Delivery {
        let native = self.native.push(&room, event, argument);
        let message = Message::text(Arguments::from_serialized(&[argument]));
        let plugins = self.emit(
            None,
            MAIN_NAMESPACE,
            Selection::room(room),
            event,
            message,
            false,
        );
        [plugins, native].into_iter().sum()
    }
}

impl Serve for Broadcast {
    fn namespaces(&self) -> Vec<String> {
        let all = self.namespaces.all().into_iter();
        all.map(|adapter| adapter.namespace().to_owned()).collect()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.namespaces.changes()
    }

    fn sockets(&self, namespace: &str, to: &Selection, want: Want) -> Found {
        let Some(adapter) = self.namespaces.get(namespace) else {
            return Found::Sockets(Vec::new());
        };
        let describe = |described: fn(&Connection) -> Described| {
            let selected = self.connections.of(&adapter.selected(to), namespace);
            let selected = selected.iter();
            Found::Sockets(selected.map(|it| described(it)).collect())
        };
        match want {
            Want::Count => Found::Count(adapter.count(to)),
            Want::Page(page) => Found::Part(self.part(namespace, to, &page)),
            Want::Ids => describe(|it| Described::id(it.id.clone())),
            Want::All => describe(|it| Described::from(it)),
        }
    }

    fn ask(
        &self,
        namespace: &str,
        to: Selection,
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> (usize, BoxStream<'static, Message>) {
        let Some(adapter) = self.namespaces.get(namespace) else {
            return (0, stream::empty().boxed());
        };
        let asked = adapter.selected(&to);
        let acks = adapter.ask(&asked, event, message, timeout);
        let answered = acks.filter_map(async |(_, answer)| answer.ok());
        (asked.len(), answered.boxed())
    }
}

/// What clients that were away are told of a change, if it is something.
fn broadcasted(id: EntryId, to: Selection, change: Change) -> Option<Broadcasted> {
    let (event, message) = match change {
        Change::Emit {
            event,
            message,
            volatile: false,
            sender: _,
        } => (event, message),
        Change::Tell(message) => (presence::EVENT.to_owned(), message),
        _ => return None,
    };
    Some(Broadcasted {
        id,
        to,
        event,
        message,
    })
}

impl Apply for Broadcast {
    fn redis_shows(&self, time: SystemTime) {
        self.history.redis_shows(time);
    }

    fn begin(&self, first: EntryId, first_kept: EntryId) {
        self.history.begin(first_kept);
        self.namespaces.recovery().has_read(first);
        self.namespaces.begin(Some(first.number()));
        for adapter in self.namespaces.all() {
            adapter.start_at(first);
        }
    }

    fn remember(&self, id: EntryId, entry: Entry) {
        let change = match entry.change {
            Change::Tell(message) => {
                let new = self.presence().hear_told_before(&entry.namespace, &message);
                new.map(Change::Tell)
            }
            change => Some(change),
        };
        self.keep_read(id, &entry.namespace, entry.to, change);
    }

    fn is_in(&self, id: EntryId, entry: Entry) {
        let change = match entry.change {
            Change::Presence(news) => {
                self.presence().hear(news);
                None
            }
            Change::Tell(message) => {
                let new = self.presence().hear_told(&entry.namespace, &message);
                new.map(Change::Tell)
            }
            change => Some(change),
        };
        self.keep_read(id, &entry.namespace, entry.to, change);
    }

    fn apply(&self, id: EntryId, entry: Entry) {
        let Entry {
            namespace,
            to,
            change,
        } = entry;
        self.namespaces.recovery().has_read(id);
        self.history.has_read(id);
        match (change, &*namespace) {
            (Change::Disconnect { close }, EVERY_NAMESPACE) => {
                for user in to.rooms.iter().filter_map(|room| UserId::of_room(room)) {
                    self.disconnect_here(&user, close);
                }
            }
            (change, namespace) => self.perform(Some(id), namespace, to, change),
        }
    }

    fn has_applied(&self, last: EntryId) {
        self.namespaces.recovery().has_performed(last);
    }

    fn apply_alone(&self, entry: Entry) {
        self.perform_alone(&entry.namespace, entry.to, entry.change);
    }

    fn is_ahead(&self, is_ahead: bool) {
        self.presence().set_ahead(is_ahead);
        self.namespaces.recovery().set_ahead(is_ahead);
    }

    fn is_interrupted(&self, has_missed: bool) {
        self.history.has_missed();
        self.presence().is_interrupted();
        self.namespaces.begin(None);
        for adapter in self.namespaces.all() {
            adapter.interrupt();
        }
        if has_missed {
            for connection in self.connections.all() {
                connection.end_transport();
            }
        }
    }
}

fn join(connections: &[Arc<Connection>], rooms: &[String]) {
    // Who is in those of the host, it decides itself.
    for room in rooms.iter().filter(|room| !is_reserved(room)) {
        let stays_out = |it: &&Arc<Connection>| it.join_one_more(room.clone()).is_err();
        let left_out = connections.iter().filter(stays_out).count();
        if left_out > 0 {
            tracing::warn!(
                room,
                connections = left_out,
                "connections stay out of a room: they are in socket.max_rooms already"
            );
        }
    }
}

fn raw(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("text always serialises")
}

/// Now, as JavaScript's `toISOString` writes it.
fn timestamp() -> String {
    humantime::format_rfc3339_millis(clock::system()).to_string()
}
