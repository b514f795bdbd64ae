//! What finds a client's session and its sockets.

use engineioxide_core::Sid;

/// What finds a client: the id of its Engine.IO session. It is a secret, since whoever knows it can
/// take a polling session over, so it never leaves the host but in the handshake.
pub(crate) type SessionKey = Sid;

/// What finds a client's socket in a namespace; as secret as the session's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Its session.
    pub session: SessionKey,
    /// The first session of a connection that has come back.
    origin: SessionKey,
}

impl SocketKey {
    /// The key of a client that connects.
    pub fn new(session: SessionKey) -> Self {
        Self {
            session,
            origin: session,
        }
    }

    /// The key of a client that has come back in `session`.
    pub fn back_in(self, session: SessionKey) -> Self {
        Self { session, ..self }
    }

    /// What all keys of the connection have in common.
    pub(crate) fn origin(&self) -> SessionKey {
        self.origin
    }

    /// Whether both are keys of the same connection, before or after it came back.
    pub fn is_same_client(&self, other: &Self) -> bool {
        self.origin == other.origin
    }
}
