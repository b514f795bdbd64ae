//! Bytes in and out: the TCP listener, the HTTP server, the service in front of socketioxide, and
//! raw packets to sockets and rooms.
//!
//! Beside `socket`, `directory` and `server`, only this module knows socketioxide.

mod adapter;
mod event_name;
mod frame;
mod front;
mod handshake;
mod incoming;
mod introduction;
mod listener;
mod members;
mod namespaces;
mod outbox;
mod packet;
mod passage;
mod polling;
mod polls;
mod presence;
mod receivers;
mod refusal;
mod serve;
mod session;
mod stream;
mod upgrade;
mod websocket;

pub use adapter::{Adapter, Delivery, SessionKey, SocketKey, Unanswered};
pub use event_name::without_stand_in;
pub use front::Front;
pub use handshake::{Handshake, Part};
pub use introduction::Introduction;
pub use listener::{Listener, Peer};
pub use members::Selection;
pub use namespaces::Namespaces;
pub use packet::Packet;
pub use passage::Removal;
pub use receivers::Receiver;
pub use serve::serve;
pub use session::{Session, Sessions};

/// socketioxide's service, without anything behind it.
pub type SocketIoService =
    socketioxide::service::SocketIoService<engineioxide::service::NotFoundService, Adapter>;
