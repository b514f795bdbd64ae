//! All sessions, what holds for each of them, and who decides about their clients.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Waker},
    time::Duration,
};

use ahash::HashMap;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    handshake::{Handshake, Part},
    outbox::Capacity,
    refusal::Refusal,
    relay::Relay,
    session::{EndReason, Malformed, Session},
    sweep::{Due, Sweep},
};
use crate::{
    address::{ClientAddress, ClientNetwork},
    auth::RequestToken,
    config, memory,
    shares::Shares,
    telemetry::SpanContext,
    transport::key::SessionKey,
};

/// How long the first events of a connection stay behind the answer to its CONNECT.
const INTRODUCTION_PAUSE: Duration = Duration::from_millis(10);

/// What holds for every session.
pub struct Policy {
    /// How often a client is asked whether it is there.
    pub ping_interval: Duration,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// How long it may take to ask for a namespace.
    pub connect_timeout: Duration,
    /// How long it may take nothing of what waits for it.
    pub write_timeout: Duration,
    /// How long the first events stay behind the answer to CONNECT.
    pub introduction_pause: Duration,
    /// The largest message from a client, in bytes.
    pub max_payload: usize,
    /// How many attachments an event may have.
    pub max_attachments: usize,
    /// How many namespaces one client may be in.
    pub max_namespaces: usize,
    /// How much may wait for a client.
    pub capacity: Capacity,
    /// How much may wait from a client while it is let in, or its packet comes in parts.
    pub queue: Capacity,
    /// How packets are written.
    pub parser: config::Parser,
    /// Over which transports clients may come.
    pub transports: config::AllowedTransports,
    /// What a balancer knows a client that polls by; none: that is nobody's business.
    pub cookie: Option<config::AffinityCookie>,
    /// From how many bytes on answers to polls are compressed; none: never.
    pub http_compression: Option<usize>,
    /// From how many bytes on messages to websockets are deflated, where the client agrees; none: never.
    pub per_message_deflate: Option<usize>,
    /// How many sessions there may be.
    pub max_sessions: usize,
    /// How many of them one address may have.
    pub max_sessions_per_address: usize,
}

impl Policy {
    /// As configured.
    pub fn new(socket: &config::Socket) -> Self {
        Self {
            ping_interval: socket.ping_interval,
            ping_timeout: socket.ping_timeout,
            connect_timeout: socket.connect_timeout,
            write_timeout: socket.write_timeout,
            introduction_pause: INTRODUCTION_PAUSE,
            max_payload: socket.max_payload.as_usize(),
            max_attachments: socket.max_attachments,
            max_namespaces: socket.max_namespaces,
            capacity: Capacity {
                packets: socket.send_buffer,
                bytes: socket.send_buffer_bytes.as_usize(),
            },
            queue: Capacity {
                packets: socket.queue,
                bytes: socket.queue_bytes.as_usize(),
            },
            parser: socket.parser,
            transports: socket.allowed_transports,
            cookie: socket.cookie.clone(),
            http_compression: socket.http_compression.threshold(),
            per_message_deflate: socket.per_message_deflate.threshold(),
            max_sessions: socket.max_sessions(),
            max_sessions_per_address: socket.max_sessions_per_address(),
        }
    }
}

/// A task that ends by itself.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Decides about clients, and takes what they send.
pub trait Door: Send + Sync {
    /// Whether somebody may read a part of what a client says when it comes.
    fn keeps(&self, part: Part<'_>) -> bool;

    /// The token in the head of a request that begins a session, where one is looked for.
    fn token(&self, headers: &HeaderMap) -> Option<RequestToken>;

    /// The span that the head of such a request says it is in, if events are traced.
    fn span(&self, _: &HeaderMap) -> Option<SpanContext> {
        None
    }

    /// The address of a client that begins a session, given that of its peer; or how long it has to
    /// wait, if it comes too often.
    fn admit(&self, peer: IpAddr, headers: &HeaderMap) -> Result<ClientAddress, Duration>;

    /// A client asks for a namespace, with its auth object as JSON; empty if it sent none. What is
    /// returned lets it in or refuses it.
    fn connect(
        self: Arc<Self>,
        session: Arc<Session>,
        namespace: &str,
        auth: &str,
    ) -> Result<Task, Malformed>;
}

/// The table of the sessions, by the ids that requests carry.
pub struct Sessions {
    /// What holds for every session.
    pub policy: Policy,
    /// The clock of all sessions.
    pub sweep: Sweep,
    table: Mutex<Table>,
    door: OnceLock<Weak<dyn Door>>,
    runtime: OnceLock<Handle>,
    /// Knows of sessions that other servers have.
    relay: OnceLock<Arc<Relay>>,
}

/// How many sessions there are.
pub(crate) struct Census {
    /// Also of those that are carried elsewhere.
    pub count: usize,
    /// Those that have no websocket.
    pub polling: usize,
    /// How many have begun since the start.
    pub begun: u64,
}

struct Table {
    sessions: HashMap<SessionKey, Arc<Session>>,
    /// How many there are, also of those that are carried elsewhere.
    count: usize,
    /// How many have begun since the start.
    begun: u64,
    shares: Shares,
    /// No new ones.
    is_closed: bool,
}

impl Table {
    fn new(policy: &Policy) -> Self {
        Self {
            sessions: HashMap::default(),
            count: 0,
            begun: 0,
            shares: Shares::new(policy.max_sessions_per_address),
            is_closed: false,
        }
    }

    /// One more, of a client of this network, if there may be one.
    fn count_in(&mut self, network: ClientNetwork, policy: &Policy) -> Result<(), Refusal> {
        if self.is_closed {
            return Err(Refusal::Leaving);
        }
        let is_full = self.count >= policy.max_sessions;
        if is_full || !self.shares.take(network) {
            return Err(Refusal::TooManySessions);
        }
        self.count += 1;
        self.begun += 1;
        Ok(())
    }

    /// One less.
    fn count_out(&mut self, network: ClientNetwork) {
        self.count -= 1;
        self.shares.give_back(network);
    }
}

/// A session that is carried elsewhere, as one of those that there may be.
pub struct Guest {
    sessions: Arc<Sessions>,
    network: ClientNetwork,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.sessions.table.lock().count_out(self.network);
    }
}

impl Sessions {
    /// No sessions yet.
    pub fn new(policy: Policy) -> Self {
        let sweep = Sweep::new(&[
            policy.ping_interval,
            policy.ping_timeout,
            policy.connect_timeout,
            policy.write_timeout,
        ]);
        Self {
            table: Mutex::new(Table::new(&policy)),
            policy,
            sweep,
            door: OnceLock::new(),
            runtime: OnceLock::new(),
            relay: OnceLock::new(),
        }
    }

    /// From now on `door` decides about clients, once and for all.
    pub fn open_door(&self, door: Weak<dyn Door>) {
        self.door.get_or_init(|| door);
    }

    /// Whether a part of a handshake is to be kept.
    pub fn keeps(&self, part: Part<'_>) -> bool {
        let door = self.door.get().and_then(Weak::upgrade);
        door.is_some_and(|door| door.keeps(part))
    }

    /// The token of a request that begins a session, where one is looked for.
    pub(super) fn token(&self, headers: &HeaderMap) -> Option<RequestToken> {
        let door = self.door.get().and_then(Weak::upgrade)?;
        door.token(headers)
    }

    /// The span of a request that begins a session, if events are traced.
    pub(super) fn span(&self, headers: &HeaderMap) -> Option<SpanContext> {
        let door = self.door.get().and_then(Weak::upgrade)?;
        door.span(headers)
    }

    /// The address of a client that wants to begin a session, if it may.
    pub fn admit(&self, peer: IpAddr, headers: &HeaderMap) -> Result<ClientAddress, Refusal> {
        let door = self.door.get().and_then(Weak::upgrade);
        let door = door.ok_or(Refusal::TooManySessions)?;
        door.admit(peer, headers).map_err(Refusal::TooOften)
    }

    /// How many sessions there are, also of those that are carried elsewhere.
    pub fn count(&self) -> usize {
        self.table.lock().count
    }

    /// What they travel over, and how many there were.
    pub(crate) fn census(&self) -> Census {
        let table = self.table.lock();
        let polls = |session: &&Arc<Session>| !session.is_over_websocket();
        Census {
            count: table.count,
            polling: table.sessions.values().filter(polls).count(),
            begun: table.begun,
        }
    }

    /// Counts a session of a client at `address` that is carried elsewhere.
    pub fn count_guest(self: &Arc<Self>, address: ClientAddress) -> Result<Guest, Refusal> {
        let network = address.network();
        self.table.lock().count_in(network, &self.policy)?;
        Ok(Guest {
            sessions: self.clone(),
            network,
        })
    }

    /// Begins a session for a client at `address`, which polls at first.
    pub fn begin(
        self: &Arc<Self>,
        address: ClientAddress,
        handshake: Option<Box<Handshake>>,
    ) -> Result<Arc<Session>, Refusal> {
        let id = SessionKey::new();
        let session = Arc::new(Session::new(id, address, handshake, self.clone()));
        {
            let mut table = self.table.lock();
            table.count_in(address.network(), &self.policy)?;
            table.sessions.insert(id, session.clone());
        }
        session.schedule(Due::Ping);
        session.schedule(Due::Join);
        Ok(session)
    }

    /// A session that is over, of a client at `address` that had it on another server.
    pub(crate) fn past(self: &Arc<Self>, address: ClientAddress) -> Arc<Session> {
        let session = Session::new(SessionKey::new(), address, None, self.clone());
        session.is_past();
        Arc::new(session)
    }

    /// The session of this id, for a request of its client's. One whose client should have answered
    /// a ping by now ends, although the clock has not come to it yet.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        let id = match self.relay() {
            Some(relay) => relay.own(id)?,
            None => id,
        };
        let id: SessionKey = id.parse().ok()?;
        let session = self.table.lock().sessions.get(&id).cloned()?;
        if session.is_overdue() {
            session.end_here(EndReason::PingTimeout);
            return None;
        }
        Some(session)
    }

    /// The id by which a client speaks of its session.
    pub(super) fn id_of(&self, session: SessionKey) -> String {
        match self.relay() {
            Some(relay) => relay.id_of(session),
            None => session.to_string(),
        }
    }

    /// From now on requests of sessions that other servers have are passed on, once and for all.
    pub(crate) fn pass_on(&self, relay: Arc<Relay>) {
        self.relay.get_or_init(|| relay);
    }

    /// Who passes them on, if they are.
    pub(super) fn relay(&self) -> Option<&Relay> {
        self.relay.get().map(|relay| &**relay)
    }

    /// A session is over.
    pub(super) fn remove(&self, session: &Session) {
        let mut table = self.table.lock();
        if table.sessions.remove(&session.id).is_none() {
            return;
        }
        table.count_out(session.address.network());
        memory::shrink(&mut table.sessions);
    }

    /// No new ones begin.
    pub fn refuse_new(&self) {
        self.table.lock().is_closed = true;
    }

    /// All sessions, as they are now.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.table.lock().sessions.values().cloned().collect()
    }

    /// Ends all sessions, for a server that stops. No new ones begin.
    pub fn close(&self) {
        self.refuse_new();
        for session in self.all() {
            session.end(EndReason::ServerShutdown);
        }
    }

    /// A client asks for a namespace. Nothing happens before the task is run.
    pub(super) fn ask(
        &self,
        session: &Arc<Session>,
        namespace: &str,
        auth: &str,
    ) -> Result<Task, Malformed> {
        match self.door.get().and_then(Weak::upgrade) {
            Some(door) => door.connect(session.clone(), namespace, auth),
            // The server is no more; its sessions follow.
            None => Err(Malformed),
        }
    }

    /// Runs a task, here as far as it gets.
    pub(super) fn go_on_with(&self, mut task: Task) {
        // Most are decided at once, and need no task of their own. One that is not is polled again
        // where it is spawned, so nothing is missed by a waker that does nothing.
        let mut cx = Context::from_waker(Waker::noop());
        if task.as_mut().poll(&mut cx).is_pending() {
            self.spawn(task);
        }
    }

    /// Has tasks run here, once and for all.
    pub fn run_on(&self, runtime: Handle) {
        self.runtime.get_or_init(|| runtime);
    }

    /// Runs a task that ends by itself. Whoever ends a session need not be on a runtime.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.runtime.get().cloned();
        match runtime.or_else(|| Handle::try_current().ok()) {
            Some(runtime) => _ = runtime.spawn(task),
            None => tracing::error!("a session ends outside of the server's runtime"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread::sleep, time::Instant};

    use super::*;

    #[tokio::test]
    async fn no_request_is_let_in_behind_a_ping_timeout_that_the_clock_has_not_come_to() {
        let socket = config::Socket {
            ping_interval: Duration::from_secs(60),
            ping_timeout: Duration::from_millis(10),
            ..Default::default()
        };
        let since = Instant::now();
        loop {
            let sessions = Arc::new(Sessions::new(Policy::new(&socket)));
            let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
            let session = sessions.begin(address, None).unwrap();
            let id = session.id.to_string();
            // Its clock is set, and does not run. It counts a few ticks nevertheless.
            let mut clock = std::pin::pin!(sessions.sweep.run());
            assert!(futures_util::poll!(&mut clock).is_pending());
            session.is_due(Due::Ping);
            session.receive("3").unwrap();
            assert!(sessions.get(&id).is_some(), "it has answered");
            session.is_due(Due::Ping);
            sleep(socket.ping_timeout * 5 / 2);
            if sessions.get(&id).is_none() {
                assert!(session.has_ended());
                assert_eq!(sessions.count(), 0);
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "it is let in");
        }
    }
}
