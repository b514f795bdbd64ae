//! Connections of servers of the cluster that are gone.

use super::Sockets;
use crate::{connection::Connection, recovery::Carried};

impl Sockets {
    /// Tells plugins of the end of a connection whose server is gone; returns what is kept of it since.
    pub(crate) async fn tell_lost(&self, mut carried: Carried) -> Carried {
        let Some(lost) = carried.lost() else {
            return carried;
        };
        carried.has_ended();
        if !self.dispatcher.is_watched(&lost.namespace) {
            return carried;
        }
        // It may have been open on that server only.
        let Ok(adapter) = self.directory.ask(&lost.namespace, None) else {
            return carried;
        };
        let session = self.directory.sessions().past(lost.address);
        let connection = Connection::lost(lost, session, adapter);
        let connection = self.dispatcher.tell_lost(connection).await;
        carried.data = connection.data.all();
        carried
    }
}
