//! TCP and HTTP: who may connect, and how long a request may take.

mod listener;
mod serve;

pub(crate) use listener::{Listener, Peer, Place, Stream};
pub(crate) use serve::serve;
