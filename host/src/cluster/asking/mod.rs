//! What servers ask each other of their sockets, and answer.

pub(crate) mod census;
pub(crate) mod channel;
pub(crate) mod described;
pub(crate) mod elders;
pub(crate) mod members;
pub(crate) mod others;
pub(crate) mod requests;
pub(crate) mod talk;
