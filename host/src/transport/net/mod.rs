//! TCP, TLS and HTTP: who may connect, and how long a request may take.

mod handshake;
mod listener;
mod serve;
mod wire;

pub(crate) use handshake::Handshakes;
pub(crate) use listener::{Bounds, Listener, Peer, Place, Stream};
pub(crate) use serve::serve;
pub(crate) use wire::Wire;
