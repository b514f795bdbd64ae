//! The sockets of namespaces: who is there, which rooms they are in, and what is sent to them.

mod adapter;
mod ask;
mod emitter;
#[cfg(test)]
mod interleavings;
mod members;
mod namespaces;
mod packet;
mod present;
mod selection;

pub use adapter::{Adapter, Delivery};
pub use ask::Unanswered;
pub use namespaces::Namespaces;
pub use packet::Packet;
pub use selection::Selection;
