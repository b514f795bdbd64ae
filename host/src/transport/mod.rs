//! Bytes in and out: TCP and HTTP (`net`), Engine.IO sessions (`engine`), and the sockets that they
//! carry (`sockets`).
//!
//! Only this module knows socketioxide's crates.

mod engine;
mod head;
mod key;
pub(crate) mod net;
mod sockets;

pub(crate) use engine::{
    Census, Door, EndReason, Ended, Handshake, Malformed, Part, Receiver, Sent, Session, Sessions,
    Task, router,
};
pub(crate) use engine::{Guest, Query, Refusal, Relay, UNCACHED, accept, admit, is_wanted, routes};
pub(crate) use key::{SessionKey, SocketKey};
pub(crate) use net::{Bounds, Connections, Handshakes, Listener, serve};
pub use sockets::Delivery;
pub(crate) use sockets::{
    Adapter, Broadcasted, Namespaces, Packet, Selection, TooManyRooms, Unanswered,
};
