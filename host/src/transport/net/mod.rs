//! TCP, TLS and HTTP: who may connect, and how long a request may take.

mod deferred;
mod handshake;
mod listener;
mod paused;
mod serve;
mod wire;

pub(crate) use deferred::Deferral;
pub(crate) use handshake::Handshakes;
pub(crate) use listener::{Bounds, Listener, Peer, Place, Stream};
pub(crate) use serve::{Connections, serve};
pub(crate) use wire::Wire;
