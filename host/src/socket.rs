//! Our own socketioxide handlers: raw JSON, in the order of the packets.
//!
//! socketioxide's closure handlers spawn a task for every event and lose the order; handlers of
//! our own are called where the packet is read.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use http::HeaderMap;
use serde_json::Map;
use socketioxide::{
    handler::{ConnectHandler, DisconnectHandler, MessageHandler},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::Value;

use crate::{
    admission::rate_limited,
    config::Network,
    connection::Connection,
    dispatch::{Dispatcher, Welcome},
    error::WireError,
    lane::Arrival,
    message::{Message, split_event},
    transport::{Adapter, Introduction, Namespaces, Peer, Session, without_stand_in},
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
            let connected = self.connect(socket, auth.as_ref()).await;
            let outcome = connected.as_ref().err().map_or("ok", |error| &error.code);
            self.dispatcher.metrics.connection(outcome);
            connected.map_err(|error| {
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
        let settings = self.dispatcher.settings.load_full();
        let address = address(&socket, &settings.trusted_proxies);
        if let Some(limit) = &settings.connections {
            limit
                .check_address(address)
                .map_err(|wait| rate_limited("connections", wait))?;
        }
        let connection = Arc::new(Connection::new(socket.id, address, adapter));
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
        let welcome = self
            .dispatcher
            .admit_connection(connection.clone(), auth)
            .await?;
        socket.extensions.insert(welcome);
        if let Some(session) = socket.req_parts().extensions.get::<Arc<Session>>() {
            session.introduce(Introduction {
                namespace: connection.namespace().to_owned(),
                sid: connection.id.clone(),
            });
        }
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
        match split_event(&without_stand_in(&text)) {
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

/// The client's address: the peer's, or what trusted proxies say of it.
fn address(socket: &Socket<Adapter>, trusted: &[Network]) -> IpAddr {
    let request = socket.req_parts();
    let peer = request.extensions.get::<axum::extract::ConnectInfo<Peer>>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.0.ip());
    forwarded_for(peer, &request.headers, trusted)
}

/// Each proxy adds who it heard from at the end of `X-Forwarded-For`; the last one that is not
/// itself a trusted proxy is the client. What stands before it, anybody could have written.
fn forwarded_for(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let hops = headers.get_all("x-forwarded-for").iter().rev();
    let hops = hops.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    let mut client = peer;
    for hop in hops {
        if !is_trusted(client) {
            break;
        }
        match hop.trim().parse() {
            Ok(address) => client = address,
            Err(_) => break,
        }
    }
    client
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
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        for (peer, header, client) in [
            ("1.1.1.1", "2.2.2.2", "1.1.1.1"),
            ("10.0.0.1", "2.2.2.2", "2.2.2.2"),
            ("10.0.0.1", "6.6.6.6, 2.2.2.2, 10.0.0.2", "2.2.2.2"),
            ("10.0.0.1", "2.2.2.2, garbage", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().unwrap());
            let found = forwarded_for(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {header}");
        }
    }
}
