//! Connection state recovery: a client that comes back soon gets its id, its rooms and the events
//! that it missed, as if it had never been away.
//!
//! Each event carries its [`Place`] as its last argument. The client keeps the last one that it has
//! seen and shows it, with its private id, when it connects again. What it missed is replayed before
//! anything else reaches it. With a gap in between nothing is recovered, and nor is it for somebody
//! else: a connection that had a user goes on with a valid token of that user only, and it waits for
//! its client whoever else shows its private id ([`Formers`]).
//!
//! # Why the place is enough
//!
//! A namespace keeps its broadcasts in one [`Log`], numbered; a connection keeps the events to it
//! alone in its own [`Stream`], counted. The invariant: **events enter a client's outbox in the order
//! of their places.** So whoever has seen a place has seen everything before it, and missed everything
//! behind it.
//!
//! - A broadcast takes its number and enters all outboxes while it holds the log for writing.
//! - An event to one connection reads the next number, is counted and enters the outbox while it holds
//!   the log for reading and its stream's lock.
//! - A connection that comes back gets the last of what it missed, and from then on what others get,
//!   while it holds the log for reading and its stream's lock.
//!
//! Two broadcasts exclude each other by the log, two events to one connection by the stream, and one
//! of each by the log again: whatever enters one outbox has an order, and the numbers follow it.
//! Events to different connections, and connections that come back, exclude nothing: the log's lock is
//! sharded, so that readers on different threads do not even share a cache line. The locks are taken
//! in one order, that of [`Formers`] first, then a log's, then a stream's, so nobody waits in a circle.
//!
//! # Why the place is nothing else
//!
//! The stock client takes the text at the end of *any* event for the place. So every event ends in
//! one, also those that are not kept:
//!
//! - A volatile broadcast takes a number, so that it stands behind what each of its receivers has got
//!   alone. A volatile event to one connection has the place of what came before it.
//! - An event that asks for an ack has no place: its last argument is the client's callback, which no
//!   client takes for one.
//!
//! A client keeps its last place for longer than its connection. Each connection takes a number as it
//! begins, so that the places of earlier ones stand before everything that is for this one, and each log
//! has a tag, so that places of another run of the server are known as such. A client that shows one of
//! them, or none, has been sent nothing here, or got none of it.
//!
//! # Why a return costs others little
//!
//! What a connection missed is looked up by its rooms (in an `Index`) and read in parts, between which
//! broadcasts go on; all that is left for the last step is what came in just then. Nobody looks at an
//! event that was not for it.

mod carried;
mod common;
mod former;
mod formers;
mod index;
mod journal;
mod log;
mod place;
mod pool;
mod saved;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use carried::{Carried, Lost, Own, OwnEvent, Visit};
pub(crate) use common::Common;
pub(crate) use former::Former;
pub(crate) use formers::Formers;
pub(crate) use journal::{Journal, Replay, Returning};
pub(crate) use log::Log;
pub(crate) use place::{NO_PLACE, Place};
pub(crate) use saved::{Saved, SavedBroadcast, SavedClient, SavedLog};
pub(crate) use stream::Stream;
