//! Sockets of a namespace, as plugins select them.

use std::sync::Arc;

use crate::{
    broadcast::Broadcast,
    connection::Connection,
    transport::{Adapter, Selection},
};

/// Sockets of one namespace. Who they are is seen when they are looked up.
#[derive(Debug)]
pub struct Selected {
    /// The namespace, if it is another than that of the connection whose call it is.
    pub namespace: Option<String>,
    /// Which ones.
    pub selection: Selection,
}

impl Selected {
    /// What `act` makes of their namespace; none if that is not open. `connection` is the one whose call
    /// it is.
    pub fn at<T>(
        &self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
        act: impl FnOnce(&Adapter) -> T,
    ) -> Option<T> {
        match &self.namespace {
            Some(path) => broadcast.namespace(path).map(|adapter| act(&adapter)),
            None => connection.map(|connection| act(connection.adapter())),
        }
    }

    /// The connections that they are of.
    pub fn connections(
        &self,
        connection: Option<&Connection>,
        broadcast: &Broadcast,
    ) -> Vec<Arc<Connection>> {
        let found = self.at(connection, broadcast, |adapter| {
            let sockets = adapter.selected(&self.selection);
            broadcast.connections().of(&sockets, adapter.namespace())
        });
        found.unwrap_or_default()
    }
}
