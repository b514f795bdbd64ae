//! Bytes in and out: the TCP listener, and raw packets to sockets and rooms.
//!
//! Beside `socket` and `server`, only this module knows socketioxide.

mod adapter;
mod listener;

pub use adapter::{Adapter, Delivery, Namespaces, Selection, SocketKey};
pub use listener::{Listener, Peer};
