//! Engine.IO v4: sessions over long-polling and websockets.

mod forms;
mod front;
mod handshake;
mod inbox;
mod msgpack;
mod origin;
mod outbox;
mod polling;
mod refusal;
mod relay;
mod session;
mod sessions;
mod sweep;
mod turn;
mod websocket;

pub(crate) use forms::Forms;
pub(crate) use front::{Query, router, routes};
pub(crate) use handshake::{Handshake, Part};
pub(crate) use origin::admit;
pub(super) use outbox::Pushed;
pub(crate) use polling::UNCACHED;
pub(crate) use refusal::Refusal;
pub(crate) use relay::Relay;
pub(crate) use session::in_process::Sent;
pub(crate) use session::{EndReason, Ended, Malformed, Receiver, Session};
pub(crate) use sessions::{Census, Door, Guest, Policy, Sessions, Task};
pub(crate) use websocket::{accept, frame, wanted::is_wanted};
