//! Engine.IO v4: sessions over long-polling and websockets.

mod front;
mod handshake;
mod inbox;
mod outbox;
mod polling;
mod refusal;
mod session;
mod sessions;
mod sweep;
mod websocket;

pub use front::{Query, admit, router, routes};
pub use handshake::{Handshake, Part};
pub use outbox::Pushed;
pub use refusal::Refusal;
pub use session::{EndReason, Malformed, Receiver, Session};
pub use sessions::{Door, Guest, Policy, Sessions, Task};
pub use websocket::{accept, frame};
