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
mod rooms;
mod selection;
mod unopened;

pub(crate) use adapter::Adapter;
pub use adapter::Delivery;
pub(crate) use ask::Unanswered;
pub(crate) use namespaces::Namespaces;
pub(crate) use packet::Packet;
pub(crate) use rooms::TooManyRooms;
pub(crate) use selection::Selection;
pub(crate) use unopened::Broadcasted;
