//! `[socket]`: the Socket.IO connections and their bounds.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{AffinityCookie, AllowedTransports, Compression, Parser, choice::choice};
use crate::units::{Size, duration};

/// `[socket]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    /// The path of the Socket.IO endpoint.
    pub path: String,
    /// How often the server asks a client whether it is still there.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ping_interval: Duration,
    /// How long it waits for the answer.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ping_timeout: Duration,
    /// How long a client may take to join a namespace.
    #[serde(deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// The largest message from a client.
    pub max_payload: Size,
    /// How packets are written, for all clients.
    pub parser: Parser,
    /// Over which transports clients may come.
    pub allowed_transports: AllowedTransports,
    /// What a balancer that is sticky may know a client that polls by.
    pub cookie: Option<AffinityCookie>,
    /// From which size on answers to polls are compressed.
    pub http_compression: Compression,
    /// From which size on messages to and from websockets are compressed.
    pub per_message_deflate: Compression,
    /// How many attachments an event may have, from clients and to them.
    pub max_attachments: usize,
    /// How many packets may wait for a client that reads slowly, at least 1.
    pub send_buffer: usize,
    /// How many bytes may wait for it; one packet always may.
    pub send_buffer_bytes: Size,
    /// What becomes of a client when one more would have to wait.
    pub slow_client: SlowClient,
    /// How long one write to a client may take.
    #[serde(deserialize_with = "duration::deserialize")]
    pub write_timeout: Duration,
    /// How long a request may take to come in full, its head and its body each.
    #[serde(deserialize_with = "duration::deserialize")]
    pub request_timeout: Duration,
    /// How many TCP connections there may be, at least 1.
    pub max_connections: usize,
    /// How many of them may be no websockets and of one client address; none: a quarter of all, and 64 at
    /// least.
    pub max_connections_per_address: Option<usize>,
    /// How many sessions there may be, at least 1; none: as many as `max_connections`.
    pub max_sessions: Option<usize>,
    /// How many sessions one client address may have; none: a quarter of all, and 8 at least.
    pub max_sessions_per_address: Option<usize>,
    /// How many namespaces may be open when one more is asked for that matches a pattern.
    pub max_namespaces: usize,
    /// How many of them clients of one address may have had opened; none: a quarter of all, and 8 at least.
    pub max_namespaces_per_address: Option<usize>,
    /// How many rooms plugins may put one connection into.
    pub max_rooms: usize,
    /// How many events of one socket may wait while an earlier one is handled, at least 1.
    pub queue: usize,
    /// How many bytes they may take; one event always may wait.
    pub queue_bytes: Size,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            path: "/socket.io".into(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            max_payload: Size::new(1_000_000),
            parser: Parser::default(),
            allowed_transports: AllowedTransports::default(),
            cookie: None,
            http_compression: Compression::OFF,
            per_message_deflate: Compression::OFF,
            max_attachments: 10,
            send_buffer: 16_384,
            send_buffer_bytes: Size::mib(16),
            slow_client: SlowClient::default(),
            write_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(75),
            max_connections: 100_000,
            max_connections_per_address: None,
            max_sessions: None,
            max_sessions_per_address: None,
            max_namespaces: 1_000,
            max_namespaces_per_address: None,
            max_rooms: 1_000,
            queue: 8_192,
            queue_bytes: Size::mib(16),
        }
    }
}

/// So many sessions, and namespaces of patterns, may any client address have, unless the configuration says otherwise,
/// however few there are.
const LEAST_SHARE: usize = 8;

/// And so many connections: a browser opens several for a page and more for each that polls.
const LEAST_SHARE_OF_CONNECTIONS: usize = 64;

impl Socket {
    /// Whether it may be the path of a Socket.IO endpoint: one like `/socket.io`, without a slash at its
    /// end.
    pub(crate) fn is_path(path: &str) -> bool {
        path.starts_with('/')
            && path.len() > 1
            && !path.ends_with('/')
            && path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
    }

    /// How many connections one client address may have that are no websockets.
    pub fn max_connections_per_address(&self) -> usize {
        let share = self.max_connections_per_address;
        share.unwrap_or((self.max_connections / 4).max(LEAST_SHARE_OF_CONNECTIONS))
    }

    /// How many sessions one client address may have, at least 1.
    pub fn max_sessions_per_address(&self) -> usize {
        let share = self.max_sessions_per_address;
        share.unwrap_or((self.max_sessions() / 4).max(LEAST_SHARE))
    }

    /// How many namespaces of patterns clients of one address may have had opened, at least 1.
    pub fn max_namespaces_per_address(&self) -> usize {
        let share = self.max_namespaces_per_address;
        share.unwrap_or((self.max_namespaces / 4).max(LEAST_SHARE))
    }

    /// How many sessions there may be.
    pub fn max_sessions(&self) -> usize {
        self.max_sessions.unwrap_or(self.max_connections)
    }
}

/// `socket.slow_client`: what becomes of a client whose send buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum SlowClient {
    /// It is disconnected, and learns by that that it missed something.
    #[default]
    Disconnect,
    /// It does not get the packet.
    Drop,
}

impl TryFrom<String> for SlowClient {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "policy",
            &text,
            &[("disconnect", Self::Disconnect), ("drop", Self::Drop)],
        )
    }
}
