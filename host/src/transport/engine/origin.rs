//! Where a new session comes from.

use std::net::IpAddr;

use axum::extract::{ConnectInfo, Request};

use super::{handshake::Handshake, refusal::Refusal, sessions::Sessions};
use crate::{address::ClientAddress, transport::net::Peer};

/// The client and its request, as far as they are known later.
pub(crate) struct Origin {
    /// The client's address.
    pub address: ClientAddress,
    /// What of the request may be read later.
    pub handshake: Option<Box<Handshake>>,
}

impl Origin {
    pub(super) fn of(request: &Request, sessions: &Sessions) -> Result<Self, Refusal> {
        Ok(Self {
            address: admit(request, sessions)?,
            handshake: Handshake::of(request, sessions)?,
        })
    }
}

/// The address of a client that wants to begin a session, if it may.
pub(crate) fn admit(request: &Request, sessions: &Sessions) -> Result<ClientAddress, Refusal> {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.0.ip());
    sessions.admit(peer, request.headers())
}
