//! The clients of native endpoints, for what reaches clients of all kinds.

use std::sync::OnceLock;

use futures_util::FutureExt;
use serde::Serialize;
use socketioxide::{BroadcastError, SocketError, SocketIo, extract::SocketRef};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::client::Session;
use crate::{namespace::MAIN_NAMESPACE, transport::Delivery};

/// The clients of all native endpoints; none where there are no such endpoints.
#[derive(Default)]
pub(crate) struct Clients {
    /// A token for each client that is connected, until its handlers have ended.
    pub present: TaskTracker,
    served: OnceLock<Served>,
}

struct Served {
    endpoints: Vec<SocketIo>,
    runtime: Handle,
}

impl Clients {
    /// These endpoints are served, once and for all, here.
    pub(crate) fn serve(&self, endpoints: Vec<SocketIo>, runtime: Handle) {
        self.served.get_or_init(|| Served { endpoints, runtime });
    }

    /// How many are connected; one with several namespaces counts once.
    pub(crate) fn count(&self) -> usize {
        self.present.len()
    }

    /// Emits an event with one argument to a room of the main namespaces.
    pub(crate) fn push<T: Serialize + ?Sized>(
        &self,
        room: &str,
        event: &str,
        argument: &T,
    ) -> Delivery {
        let endpoints = self.served.get().map(|served| served.endpoints.iter());
        let pushed = |io| push(io, room, event, argument);
        endpoints.into_iter().flatten().filter_map(pushed).sum()
    }

    /// Ends the connections of a room, whatever the namespace, and to `close` them the transports of
    /// their clients, too. Returns how many it ended.
    pub(crate) fn disconnect(&self, room: &str, close: bool) -> usize {
        let Some(Served { endpoints, runtime }) = self.served.get() else {
            return 0;
        };
        // The handlers of what ends are spawned, from wherever this is called.
        let _runtime = runtime.enter();
        let namespaces = endpoints.iter().flat_map(SocketIo::nsps);
        let sockets = namespaces.flat_map(|namespace| namespace.to(room.to_owned()).sockets());
        let disconnect = |socket: SocketRef| {
            let (session, id) = (Session::of(&socket), socket.id);
            match socket.disconnect() {
                Ok(()) if close => session.part(id),
                Ok(()) => {}
                // It takes nothing more, not even that.
                Err(_) => session.end(id),
            }
        };
        sockets.map(disconnect).count()
    }

    /// Waits until nobody is connected any more and the handlers of those who were have ended.
    pub(crate) async fn ended(&self) {
        self.present.close();
        self.present.wait().await;
    }
}

/// None where the endpoint has no main namespace.
fn push<T: Serialize + ?Sized>(
    io: &SocketIo,
    room: &str,
    event: &str,
    argument: &T,
) -> Option<Delivery> {
    let room = || Some(io.of(MAIN_NAMESPACE)?.to(room.to_owned()));
    let recipients = room()?.sockets().len();
    if recipients == 0 {
        return None;
    }
    let emitted = room()?.emit(event, argument).now_or_never();
    let emitted = emitted.expect("an adapter of one process waits for nobody");
    let failures = match emitted {
        Ok(()) => Vec::new(),
        Err(BroadcastError::Socket(failures)) => failures,
        Err(error) => {
            tracing::error!(event, %error, "a push did not reach the clients of a native endpoint");
            return None;
        }
    };
    let is_full = |failure: &&SocketError| matches!(failure, SocketError::InternalChannelFull);
    Some(Delivery {
        delivered: recipients.saturating_sub(failures.len()),
        dropped: failures.iter().filter(is_full).count(),
    })
}
