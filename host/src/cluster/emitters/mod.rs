//! Programs that are no servers and emit into the cluster.

pub(crate) mod foreign;
pub(crate) mod inbound;
