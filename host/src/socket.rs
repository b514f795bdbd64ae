//! Our own socketioxide handlers: raw JSON, in the order of the packets.
//!
//! socketioxide's closure handlers spawn a task for every event and lose the order; handlers of
//! our own are called where the packet is read.

use std::{borrow::Cow, net::IpAddr, pin::Pin, sync::Arc};

use parking_lot::Mutex;
use serde_json::Map;
use socketioxide::{
    handler::{ConnectHandler, DisconnectHandler, MessageHandler},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::Value;

use crate::{
    address::{ClientAddress, TrustedProxies},
    admission::rate_limited,
    connection::Connection,
    dispatch::{Dispatcher, Welcome},
    error::{ConnectError, WireError},
    lane::Arrival,
    message::{InvalidMessage, Message, split_event},
    recovery::Replay,
    settings::Settings,
    transport::{
        Adapter, Introduction, Namespaces, Peer, Receiver, Session, SessionKey, SocketKey,
        without_stand_in,
    },
    user::User,
};

type SocketRef = Arc<Socket<Adapter>>;

/// What socketioxide takes for a handler's refusal: the text of `connect_error`.
type Refusal = Box<dyn std::fmt::Display + Send>;

pub use crate::namespace::MAIN_NAMESPACE;

/// Handles the sockets of every namespace.
#[derive(Clone)]
pub struct Handlers {
    /// Where everything goes.
    pub dispatcher: Arc<Dispatcher>,
    /// The namespaces' doors.
    pub namespaces: Arc<Namespaces>,
}

/// Marks our implementations among socketioxide's for closures.
pub enum Ours {}

impl ConnectHandler<Adapter, Ours> for Handlers {
    /// The client has been told that it is connected.
    fn call(&self, socket: SocketRef, _auth: Option<Value>) {
        let Some(welcome) = socket.extensions.remove::<Welcome>() else {
            return;
        };
        let connection = &welcome.connection;
        let events = Events {
            dispatcher: self.dispatcher.clone(),
            connection: connection.clone(),
        };
        // Before the client knows: who reacts to it finds it.
        self.dispatcher.connections.insert(connection.clone());
        connection.enter(Arc::new(events));
        if !self.serves(connection.adapter()) {
            // The namespace ended behind the check of `connect`. Whoever deletes one tells those
            // of its clients only that are in it already.
            socket.disconnect().ok();
            // It may have ended before it entered.
            connection.exit();
            self.dispatcher.connections.remove(connection);
            self.dispatcher.open(connection);
            return;
        }
        if let Some(replay) = socket.extensions.remove::<Missed>() {
            let replay = replay.0.lock().take();
            if !replay.is_some_and(|replay| connection.catch_up(replay)) {
                tracing::warn!(
                    socket = connection.id,
                    "a client that came back missed more than is kept; it has to start afresh"
                );
                connection.end_transport();
            }
        }
        self.dispatcher.welcome(&welcome);
    }

    /// The client asks to be let in.
    fn call_middleware<'a>(
        &'a self,
        socket: SocketRef,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let connected = self.connect(&socket, auth.as_ref()).await;
            let refused = connected.as_ref().err().map(|error| &*error.message);
            self.dispatcher.metrics.connection(refused);
            connected.map_err(|error| {
                if let Ok(session) = session(&socket) {
                    session.refuse(socket.ns(), &error);
                }
                Box::new(error.message) as Refusal
            })
        })
    }
}

impl Handlers {
    async fn connect(&self, socket: &SocketRef, auth: Option<&Value>) -> Result<(), ConnectError> {
        let settings = self.dispatcher.settings.load_full();
        let Auth {
            token,
            resume,
            rest,
        } = Auth::parse(auth, settings.verifier.is_some())?;
        let adapter = self.namespaces.get(socket.ns()).ok_or_else(gone)?;
        let address = address(socket, &settings.trusted_proxies);
        if let Some(limit) = &settings.connections {
            limit
                .check_address(address)
                .map_err(|wait| rate_limited("connections", wait))?;
        }
        let verified = match (&settings.verifier, token) {
            (Some(verifier), Some(token)) => match verifier.verify(&token) {
                Ok(user) => Some(user),
                Err(error) => {
                    tracing::debug!(%address, "connection refused: {error}");
                    return Err(error.to_wire().into());
                }
            },
            _ if settings.anonymous => None,
            _ => return Err(WireError::new("unauthorized", "a token is needed").into()),
        };
        let session = session(socket)?;
        if let Some(resume) = &resume {
            let end = |former| self.end_former(former, adapter.namespace(), verified.as_ref());
            adapter.supersede(&resume.pid, socket.id, end).await;
        }
        let resumed = resume
            .and_then(|resume| self.resume(socket, &adapter, resume, verified.as_ref(), &settings));
        let (connection, missed) = match resumed {
            Some(Resumed { key, missed }) => {
                let former = missed.former();
                let connection = Connection::back(former, key, session.clone(), address, adapter);
                (connection, Some(missed))
            }
            None => {
                let key = SocketKey::new(socket.id);
                let connection = Connection::new(key, session.clone(), address, adapter);
                (connection, None)
            }
        };
        let connection = Arc::new(connection);
        if let Some(user) = verified {
            connection.authenticate(user);
        }
        // Before the client knows that it is connected: its first events may come at once.
        let handler = Events {
            dispatcher: self.dispatcher.clone(),
            connection: connection.clone(),
        };
        socket.on_disconnect(handler.clone());
        socket.on_fallback(handler);
        let admitted = self
            .dispatcher
            .admit_connection(connection.clone(), rest)
            .await;
        if admitted.is_err() && missed.is_some() {
            // It may come back another time.
            connection.end(true);
        }
        let welcome = admitted?;
        if !self.serves(connection.adapter()) {
            return Err(gone().into());
        }
        socket.extensions.insert(welcome);
        if let Some(missed) = missed {
            socket.extensions.insert(Missed::new(missed));
        }
        self.namespaces
            .sessions()
            .enter(session, socket.id.to_string());
        session.announce(Introduction {
            namespace: connection.namespace().to_owned(),
            sid: connection.id.clone(),
            pid: connection.pid().map(str::to_owned),
        });
        Ok(())
    }

    /// Whether a namespace is to be served still, and by this adapter of its.
    fn serves(&self, adapter: &Adapter) -> bool {
        let path = adapter.namespace();
        let is_wanted = || path == MAIN_NAMESPACE || self.dispatcher.registry.load().serves(path);
        let current = self.namespaces.get(path);
        current.is_some_and(|current| std::ptr::eq(&*current, adapter)) && is_wanted()
    }

    /// Ends a connection whose client is back over another one, as `user`; false if it is not that
    /// user's.
    fn end_former(&self, former: SessionKey, namespace: &str, user: Option<&User>) -> bool {
        let connection = self.dispatcher.connections.get(former, namespace);
        let user = user.map(|user| &user.id);
        let its = connection.filter(|connection| connection.is_of(user));
        its.map(|connection| connection.end_transport()).is_some()
    }

    /// Gives a client the connection that it has had, if it may have it still.
    fn resume(
        &self,
        socket: &Socket<Adapter>,
        adapter: &Adapter,
        resume: Resume,
        user: Option<&User>,
        settings: &Settings,
    ) -> Option<Resumed> {
        let id = user.map(|user| &user.id);
        let mut returning = adapter.take_former(&resume.pid, resume.offset.as_deref(), id)?;
        returning.former.retain_rooms(user, settings);
        let key = returning.former.key.back_in(socket.id);
        let missed = adapter.resume(key, returning)?;
        Some(Resumed { key, missed })
    }
}

/// The refusal of a client that asked for a namespace as it ended.
fn gone() -> WireError {
    WireError::temporary("plugin_unavailable", "the namespace is gone")
}

/// A connection that a client has back.
struct Resumed {
    key: SocketKey,
    missed: Replay,
}

/// What a connection missed, until the client knows that it is connected.
#[derive(Clone)]
struct Missed(Arc<Mutex<Option<Replay>>>);

impl Missed {
    fn new(replay: Replay) -> Self {
        Self(Arc::new(Mutex::new(Some(replay))))
    }
}

/// The front's part of a socket.
fn session(socket: &Socket<Adapter>) -> Result<&Arc<Session>, WireError> {
    let session = socket.req_parts().extensions.get();
    session.ok_or_else(|| WireError::new("internal", "a socket that the front did not open"))
}

/// One connection's events.
#[derive(Clone)]
struct Events {
    dispatcher: Arc<Dispatcher>,
    connection: Arc<Connection>,
}

impl Receiver for Events {
    fn receive(&self, array: &str, ack: Option<i64>) -> bool {
        let Ok((event, arguments)) = split_event(array) else {
            return false;
        };
        self.arrive(event, Message::text(arguments), ack);
        true
    }
}

impl MessageHandler<Adapter, Ours> for Events {
    fn call(&self, _socket: SocketRef, packet: Value, ack: Option<i64>) {
        let Value::Str(array, attachments) = packet else {
            return;
        };
        let array = without_stand_in(&array);
        let attachments = attachments.map(Vec::from).unwrap_or_default();
        let packet = split_event(&array)
            .map_err(InvalidMessage::from)
            .and_then(|(event, arguments)| Ok((event, Message::new(arguments, attachments)?)));
        match packet {
            Ok((event, message)) => self.arrive(event, message, ack),
            Err(error) => {
                let error = WireError::new("invalid_payload", error.to_string());
                self.dispatcher.refuse_packet(&self.connection, ack, error);
            }
        }
    }
}

impl Events {
    fn arrive(&self, event: Cow<'_, str>, message: Message, ack: Option<i64>) {
        let arrival = Arrival::Event {
            event: event.into(),
            message,
            ack,
        };
        self.dispatcher.arrive(&self.connection, arrival);
    }
}

impl DisconnectHandler<Adapter, Ours> for Events {
    fn call_with_defer(&self, socket: SocketRef, reason: DisconnectReason, defer: fn(SocketRef)) {
        let session_has_ended = may_come_back(reason);
        self.connection.end(session_has_ended);
        if reason == DisconnectReason::ServerNSDisconnect {
            self.connection.tell_end();
        }
        if session_has_ended {
            defer(socket);
        } else {
            // Weak: socketioxide removes it with the session, and the session need not keep it.
            let socket = Arc::downgrade(&socket);
            let remove = move || _ = socket.upgrade().map(defer);
            self.connection.remove_socket(Box::new(remove));
        }
        self.dispatcher
            .farewell(&self.connection, reason_text(reason));
    }
}

/// Whether it is the connection that ended, and not the client or the server that wanted it to.
fn may_come_back(reason: DisconnectReason) -> bool {
    !matches!(
        reason,
        DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect
    )
}

/// What a client says of itself when it connects.
struct Auth {
    token: Option<String>,
    resume: Option<Resume>,
    /// The JSON of all that is not the host's, for plugins.
    rest: String,
}

/// The connection that a client wants back: its private id, and the place of the last event that it
/// has seen. One that has seen none has no place.
struct Resume {
    pid: String,
    offset: Option<String>,
}

impl Auth {
    /// The token is for plugins, unless the host `takes_token`s.
    fn parse(auth: Option<&Value>, takes_token: bool) -> Result<Self, WireError> {
        let text = match auth {
            Some(Value::Str(text, _)) => text.as_str(),
            _ => "{}",
        };
        // Browsers may send `null` or a bare value; only an object can hold a token.
        let Ok(mut fields) = serde_json::from_str::<Map<String, serde_json::Value>>(text) else {
            return Ok(Self {
                token: None,
                resume: None,
                rest: "{}".to_owned(),
            });
        };
        let token = takes_token.then(|| fields.remove("token")).flatten();
        let token = match token {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(token)) => Some(token),
            Some(_) => return Err(WireError::new("unauthorized", "auth.token is not a text")),
        };
        let resume = match (fields.remove("pid"), fields.remove("offset")) {
            (Some(serde_json::Value::String(pid)), Some(serde_json::Value::String(offset))) => {
                let offset = Some(offset);
                Some(Resume { pid, offset })
            }
            (Some(serde_json::Value::String(pid)), None) => Some(Resume { pid, offset: None }),
            _ => None,
        };
        let rest = serde_json::to_string(&fields).expect("a JSON object always serialises");
        Ok(Self {
            token,
            resume,
            rest,
        })
    }
}

/// The client's address: the peer's, or what trusted proxies say of it.
fn address(socket: &Socket<Adapter>, proxies: &TrustedProxies) -> ClientAddress {
    let request = socket.req_parts();
    let peer = request.extensions.get::<axum::extract::ConnectInfo<Peer>>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.0.ip());
    proxies.client(peer, &request.headers)
}

/// Socket.IO's words, as `socket.on("disconnect", reason)` has them in Node.
fn reason_text(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::MultipleHttpPollingError | DisconnectReason::TransportError => {
            "transport error"
        }
        DisconnectReason::PacketParsingError => "parse error",
        DisconnectReason::ClientNSDisconnect => "client namespace disconnect",
        DisconnectReason::ServerNSDisconnect => "server namespace disconnect",
        DisconnectReason::HeartbeatTimeout => "ping timeout",
        DisconnectReason::ClosingServer => "server shutting down",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socketioxide::SocketIo;
    use socketioxide_core::Sid;

    use super::*;
    use crate::{
        admission::RateLimits,
        config::{self, Config},
        metrics::Metrics,
    };

    /// The handlers of a server with the main namespace and no plugins, which `SocketIo` keeps alive.
    fn handlers(recovery: bool) -> (Handlers, SocketIo<Adapter>) {
        let recovery = config::Recovery {
            enabled: recovery,
            ..Default::default()
        };
        let namespaces = Arc::new(Namespaces::new(recovery, &config::Socket::default()));
        let metrics: Arc<Metrics> = Arc::default();
        let limits = Arc::new(RateLimits::new(metrics.clone()));
        let settings = Settings::new(&Config::default(), b"secret", &limits);
        let handlers = Handlers {
            dispatcher: Dispatcher::new(settings, namespaces.clone(), metrics),
            namespaces: namespaces.clone(),
        };
        let (_, io) = SocketIo::builder()
            .with_adapter::<Adapter>(namespaces)
            .build_svc();
        io.ns(MAIN_NAMESPACE, handlers.clone());
        (handlers, io)
    }

    /// A connection that has not been let in yet.
    fn connection(handlers: &Handlers) -> Arc<Connection> {
        let session = handlers.namespaces.sessions().begin(None);
        let adapter = handlers.namespaces.get(MAIN_NAMESPACE).unwrap();
        let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
        let key = SocketKey::new(Sid::new());
        Arc::new(Connection::new(key, session, address, adapter))
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_connection_that_ends_while_it_is_let_in() {
        let (handlers, _io) = handlers(true);
        let dispatcher = &handlers.dispatcher;
        let connection = connection(&handlers);
        let admitted = dispatcher.admit_connection(connection.clone(), "{}".to_owned());
        let welcome = admitted.await.unwrap();
        // socketioxide has answered CONNECT when the session ends, and calls the handler only then.
        connection.end(false);
        dispatcher.farewell(&connection, "transport close");
        connection.enter(Arc::new(Events {
            dispatcher: dispatcher.clone(),
            connection: connection.clone(),
        }));
        dispatcher.welcome(&welcome);
        assert_eq!(dispatcher.connections.clients(), 0);
        let left = Arc::downgrade(&connection);
        drop((welcome, connection));
        assert!(left.upgrade().is_none());
    }

    #[test]
    fn a_connection_that_has_ended_is_in_no_room_whatever_joins_it_later() {
        for recovery in [true, false] {
            let (handlers, _io) = handlers(recovery);
            let connection = connection(&handlers);
            let joined = || connection.adapter().rooms(connection.key);
            connection.join(vec!["early".to_owned()]);
            assert_eq!(joined(), ["early"]);
            connection.end(true);
            connection.adapter().leave_all(connection.key);
            connection.join(vec!["late".to_owned()]);
            assert!(joined().is_empty(), "recovery: {recovery}");
        }
    }
}
