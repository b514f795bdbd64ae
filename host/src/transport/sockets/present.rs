//! Which clients are here that could come back.
//!
//! Who loses the network says no goodbye: it is back over another connection long before the former
//! one has missed a heartbeat. So the former one is ended for it.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use crate::{memory, transport::key::SessionKey};

/// How long the end of a former connection may take. After that its client starts afresh.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

/// The sockets of one namespace by the private ids of their clients.
#[derive(Default)]
pub(super) struct Present {
    sockets: Mutex<HashMap<String, SessionKey>>,
    /// Somebody has left.
    left: Notify,
}

impl Present {
    /// The client with this private id has a socket.
    pub(super) fn enter(&self, pid: String, socket: SessionKey) {
        let mut sockets = self.sockets.lock();
        sockets.insert(pid, socket);
    }

    /// It does not have this socket any more.
    pub(super) fn leave(&self, pid: &str, socket: SessionKey) {
        let mut sockets = self.sockets.lock();
        if sockets.get(pid) == Some(&socket) {
            sockets.remove(pid);
            memory::shrink(&mut *sockets);
        }
        drop(sockets);
        self.left.notify_waiters();
    }

    /// Has `end` end the socket that the client with this private id has beside `socket`, and
    /// returns when it is gone; at once if `end` says that it stays.
    pub(super) async fn supersede(
        &self,
        pid: &str,
        socket: SessionKey,
        end: impl FnOnce(SessionKey) -> bool,
    ) {
        if !self.other(pid, socket).is_some_and(end) {
            return;
        }
        let is_gone = async {
            loop {
                let left = self.left.notified();
                if self.other(pid, socket).is_none() {
                    return;
                }
                left.await;
            }
        };
        if timeout(ENDED_WITHIN, is_gone).await.is_err() {
            tracing::warn!("a connection does not end, so its client cannot have it back");
        }
    }

    fn other(&self, pid: &str, socket: SessionKey) -> Option<SessionKey> {
        let sockets = self.sockets.lock();
        let other = sockets.get(pid).copied();
        other.filter(|other| *other != socket)
    }
}
