//! Raw packets to sockets and rooms: our own socketioxide adapter, one for each namespace.
//!
//! Packets go out as the JSON text they came as. socketioxide's own emit functions would
//! serialise it a second time.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socketioxide::adapter::Emitter;
use socketioxide_core::{
    Value,
    adapter::{
        BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter,
        SocketEmitter, errors::SocketError,
    },
    packet::Packet,
};

use crate::message::{Message, join_event};

/// What finds a client's sockets: its engine.io session. It is a secret, since whoever knows it
/// can take a polling session over, so it never leaves the host.
pub type SocketKey = socketioxide_core::Sid;

/// The adapters of all namespaces by path.
#[derive(Default)]
pub struct Namespaces {
    adapters: RwLock<HashMap<String, Arc<Adapter>>>,
    dropped: AtomicU64,
}

impl Namespaces {
    /// Packets that found a send buffer full, since the start.
    pub fn dropped_emits(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The adapter of a namespace that is being served.
    pub fn get(&self, path: &str) -> Option<Arc<Adapter>> {
        self.adapters
            .read()
            .expect("no holder panics")
            .get(path)
            .cloned()
    }
}

/// Which sockets of a namespace an event goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Sockets in at least one of these rooms; every socket if empty.
    pub rooms: Vec<String>,
    /// But not those in one of these.
    pub except: Vec<String>,
    /// Nor this one.
    pub except_socket: Option<SocketKey>,
}

impl Selection {
    /// The sockets in one room.
    pub fn room(room: impl Into<String>) -> Self {
        Self {
            rooms: vec![room.into()],
            except: Vec::new(),
            except_socket: None,
        }
    }
}

/// How far an emit got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Sockets whose send buffer took the packet.
    pub delivered: usize,
    /// Sockets whose send buffer was full.
    pub dropped: usize,
}

/// One namespace's door to its sockets.
pub struct Adapter {
    local: CoreLocalAdapter<Emitter>,
    namespaces: Arc<Namespaces>,
}

impl Adapter {
    /// The namespace's path.
    pub fn namespace(&self) -> &str {
        self.local.path()
    }

    /// Emits an event to one socket.
    pub fn emit(
        &self,
        socket: SocketKey,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        self.send(event, message, one_socket(socket, volatile), 1)
    }

    /// Emits an event to every socket of a selection; it is encoded once.
    pub fn broadcast(
        &self,
        to: Selection,
        event: &str,
        message: Message,
        volatile: bool,
    ) -> Delivery {
        let mut options = BroadcastOptions::default();
        options.rooms = to.rooms.into_iter().map(Cow::Owned).collect();
        options.except = to.except.into_iter().map(Cow::Owned).collect();
        options.sid = to.except_socket;
        // The flag means "not to `sid`"; without rooms it is also what selects everybody.
        options.add_flag(BroadcastFlags::Broadcast);
        if volatile {
            options.add_flag(BroadcastFlags::Volatile);
        }
        let recipients = self.local.sockets(options.clone()).len();
        if recipients == 0 {
            return Delivery::default();
        }
        self.send(event, message, options, recipients)
    }

    /// Answers an event that asked for an ack.
    pub fn ack(&self, socket: SocketKey, id: i64, message: Message) -> Delivery {
        let value = value(message.arguments.into_string(), message.attachments);
        let packet = Packet::ack(self.local.path().clone(), value, id);
        delivery(
            self.local.broadcast(packet, BroadcastOptions::new(socket)),
            1,
        )
    }

    /// Adds a socket to rooms.
    pub fn join(&self, socket: SocketKey, rooms: Vec<String>) {
        self.local.add_all(socket, rooms);
    }

    /// Removes a socket from rooms.
    pub fn leave(&self, socket: SocketKey, rooms: Vec<String>) {
        self.local.del(socket, rooms);
    }

    /// The rooms of a socket, sorted.
    pub fn rooms(&self, socket: SocketKey) -> Vec<String> {
        let mut rooms: Vec<String> = self
            .local
            .socket_rooms(socket)
            .into_iter()
            .map(Cow::into_owned)
            .collect();
        rooms.sort_unstable();
        rooms
    }

    fn send(
        &self,
        event: &str,
        message: Message,
        options: BroadcastOptions,
        recipients: usize,
    ) -> Delivery {
        let value = value(join_event(event, &message.arguments), message.attachments);
        let packet = Packet::event(self.local.path().clone(), value);
        let delivery = delivery(self.local.broadcast(packet, options), recipients);
        if delivery.dropped > 0 {
            self.namespaces
                .dropped
                .fetch_add(delivery.dropped as u64, Ordering::Relaxed);
            tracing::warn!(
                namespace = self.namespace(),
                event,
                dropped = delivery.dropped,
                "clients that read too slowly missed an event: their send buffers are full"
            );
        }
        delivery
    }
}

fn one_socket(socket: SocketKey, volatile: bool) -> BroadcastOptions {
    let mut options = BroadcastOptions::new(socket);
    if volatile {
        options.add_flag(BroadcastFlags::Volatile);
    }
    options
}

fn value(json: String, attachments: Vec<bytes::Bytes>) -> Value {
    let attachments = (!attachments.is_empty()).then(|| VecDeque::from(attachments));
    Value::Str(json.into(), attachments)
}

/// A socket that is gone is no loss: nobody was there to receive.
fn delivery(result: Result<(), Vec<SocketError>>, recipients: usize) -> Delivery {
    let errors = result.err().unwrap_or_default();
    let dropped = errors
        .iter()
        .filter(|error| matches!(error, SocketError::InternalChannelFull))
        .count();
    Delivery {
        delivered: recipients.saturating_sub(errors.len()),
        dropped,
    }
}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = Arc<Namespaces>;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(namespaces: &Arc<Namespaces>, local: CoreLocalAdapter<Emitter>) -> Self {
        Self {
            local,
            namespaces: namespaces.clone(),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        let path = self.namespace().to_owned();
        let namespaces = self.namespaces.clone();
        namespaces
            .adapters
            .write()
            .expect("no holder panics")
            .insert(path, self);
        on_success();
    }

    async fn close(&self) -> Result<(), Infallible> {
        self.namespaces
            .adapters
            .write()
            .expect("no holder panics")
            .remove(self.namespace());
        Ok(())
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.local.broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl DefinedAdapter for Adapter {}
