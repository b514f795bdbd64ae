//! Connection state recovery: a client that comes back soon gets its id, its rooms and the events
//! that it missed, as if it had never been away.
//!
//! Each event carries its place in the [`Log`] as its last argument. The client keeps the last one
//! that it has seen and shows it, with its private id, when it connects again. What it may have
//! back is decided anew ([`Former::identity`]); what it missed is replayed before anything else
//! reaches it. With a gap in between nothing is recovered.

mod former;
mod log;

pub use former::Former;
pub use log::{Log, Replay, Target};
