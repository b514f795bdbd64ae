//! Connection state recovery: a client that comes back soon gets its id, its rooms and the events
//! that it missed, as if it had never been away.
//!
//! Each event carries its [`Place`] as its last argument. The client keeps the last one that it has
//! seen and shows it, with its private id, when it connects again. What it may have back is decided
//! anew ([`Former::identity`]); what it missed is replayed before anything else reaches it. With a
//! gap in between nothing is recovered.
//!
//! # Why the place is enough
//!
//! A namespace keeps its broadcasts in one [`Log`], numbered; a connection keeps the events to it
//! alone in its own [`Stream`], numbered as well. The invariant: **events enter a client's outbox in
//! the order of their places.** So whoever has seen a place has seen everything before it, and missed
//! everything behind it.
//!
//! - A broadcast takes its number and enters all outboxes while it holds the log for writing.
//! - An event to one connection reads the number of the next broadcast, takes its own number and
//!   enters the outbox while it holds the log for reading and its stream's lock.
//! - A connection that comes back gets what it missed while both are held, the log for writing.
//!
//! Two broadcasts exclude each other by the log, two events to one connection by the stream, and one
//! of each by the log again: whatever enters one outbox has an order, and the numbers follow it.
//! Events to different connections exclude nothing: the log's lock is sharded, so that readers on
//! different threads do not even share a cache line. The log always comes first, so nobody waits in
//! a circle.

mod former;
mod journal;
mod log;
mod place;
mod stream;
#[cfg(test)]
mod tests;

pub use former::Former;
pub use journal::{Journal, Replay};
pub use log::Log;
pub use place::Place;
pub use stream::Stream;
