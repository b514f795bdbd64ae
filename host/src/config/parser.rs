//! How packets are written.

use serde::Deserialize;

use super::choice::choice;

/// `socket.parser`: how packets of Socket.IO are written, for all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Parser {
    /// As JSON, with binary data beside it: the parser that clients have.
    #[default]
    Json,
    /// As msgpack: for clients with `socket.io-msgpack-parser`, and no others.
    Msgpack,
}

impl TryFrom<String> for Parser {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "parser",
            &text,
            &[("json", Self::Json), ("msgpack", Self::Msgpack)],
        )
    }
}
