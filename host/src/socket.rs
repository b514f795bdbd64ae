//! Our own socketioxide handlers: raw JSON, in the order of the packets.
//!
//! socketioxide's closure handlers spawn a task for every event and lose the order; handlers of
//! our own are called where the packet is read.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use serde_json::Map;
use socketioxide::{
    handler::{ConnectHandler, DisconnectHandler, MessageHandler},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::Value;

use crate::{
    connection::Connection,
    dispatch::{Dispatcher, Welcome},
    error::WireError,
    lane::Arrival,
    message::{Message, split_event},
    transport::{Adapter, Namespaces, Peer},
};

type SocketRef = Arc<Socket<Adapter>>;

/// What socketioxide takes for a handler's refusal: the text of `connect_error`.
type Refusal = Box<dyn std::fmt::Display + Send>;

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
        if let Some(welcome) = socket.extensions.remove::<Welcome>() {
            self.dispatcher.welcome(&welcome);
        }
    }

    /// The client asks to be let in.
    fn call_middleware<'a>(
        &'a self,
        socket: SocketRef,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            self.connect(socket, auth.as_ref()).await.map_err(|error| {
                // Clients tell errors apart by this text alone, so it is the code.
                Box::new(error.code) as Refusal
            })
        })
    }
}

impl Handlers {
    async fn connect(&self, socket: SocketRef, auth: Option<&Value>) -> Result<(), WireError> {
        let (token, auth) = split_auth(auth)?;
        let adapter = self
            .namespaces
            .get(socket.ns())
            .ok_or_else(|| WireError::temporary("plugin_unavailable", "the namespace is gone"))?;
        let connection = Arc::new(Connection::new(socket.id, address(&socket), adapter));
        let settings = self.dispatcher.settings.load_full();
        match token {
            Some(token) => {
                let user = settings.verifier.verify(&token).map_err(|error| {
                    tracing::debug!(address = %connection.address, "connection refused: {error}");
                    error.to_wire()
                })?;
                connection.authenticate(user);
            }
            None if settings.anonymous => {}
            None => return Err(WireError::new("unauthorized", "a token is needed")),
        }
        // Before the client knows that it is connected: its first events may come at once.
        let handler = Events {
            dispatcher: self.dispatcher.clone(),
            connection: connection.clone(),
        };
        socket.on_disconnect(handler.clone());
        socket.on_fallback(handler);
        let welcome = self.dispatcher.admit_connection(connection, auth).await?;
        socket.extensions.insert(welcome);
        Ok(())
    }
}

/// One connection's events.
#[derive(Clone)]
struct Events {
    dispatcher: Arc<Dispatcher>,
    connection: Arc<Connection>,
}

impl MessageHandler<Adapter, Ours> for Events {
    fn call(&self, _socket: SocketRef, packet: Value, ack: Option<i64>) {
        let Value::Str(text, attachments) = packet else {
            return;
        };
        match split_event(&text) {
            Ok((event, arguments)) => {
                let attachments = attachments.map(Vec::from).unwrap_or_default();
                let message = Message {
                    arguments,
                    attachments,
                };
                let arrival = Arrival::Event {
                    event: event.into_owned(),
                    message,
                    ack,
                };
                self.dispatcher.arrive(&self.connection, arrival);
            }
            Err(error) => {
                let error = WireError::new("invalid_payload", error.to_string());
                self.dispatcher.refuse_packet(&self.connection, ack, error);
            }
        }
    }
}

impl DisconnectHandler<Adapter, Ours> for Events {
    fn call_with_defer(&self, socket: SocketRef, reason: DisconnectReason, defer: fn(SocketRef)) {
        defer(socket);
        self.dispatcher
            .farewell(&self.connection, reason_text(reason));
    }
}

/// The token of an auth object, and the JSON of the rest.
fn split_auth(auth: Option<&Value>) -> Result<(Option<String>, String), WireError> {
    let text = match auth {
        Some(Value::Str(text, _)) => text.as_str(),
        _ => "{}",
    };
    // Browsers may send `null` or a bare value; only an object can hold a token.
    let Ok(mut fields) = serde_json::from_str::<Map<String, serde_json::Value>>(text) else {
        return Ok((None, "{}".to_owned()));
    };
    let token = match fields.remove("token") {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(token)) => Some(token),
        Some(_) => return Err(WireError::new("unauthorized", "auth.token is not a text")),
    };
    let rest = serde_json::to_string(&fields).expect("a JSON object always serialises");
    Ok((token, rest))
}

fn address(socket: &Socket<Adapter>) -> IpAddr {
    let peer = socket
        .req_parts()
        .extensions
        .get::<axum::extract::ConnectInfo<Peer>>();
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.0.ip())
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
