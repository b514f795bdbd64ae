//! The stream that all servers perform: what it holds, and how it is written and read.

pub(crate) mod entry;
pub(crate) mod id;
pub(crate) mod queue;
pub(crate) mod reader;
pub(crate) mod sender;
