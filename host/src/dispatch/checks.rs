//! Checks that take long: away from the threads that read sockets, one at a time for each client.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{address::ClientNetwork, error::WireError, plugin::Plugin};

/// How many run at once. They have threads of low priority, among which the system shares.
const AT_ONCE: usize = 8;

/// Long checks that are under way, or wait for their turn.
pub(super) struct Checks {
    threads: Arc<Semaphore>,
    clients: Mutex<HashMap<ClientNetwork, Arc<Semaphore>>>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(AT_ONCE)),
            clients: Mutex::default(),
        }
    }
}

impl Checks {
    /// Runs a check of what belongs to a client. Those of one client wait for each other, so that
    /// nobody can keep the others from being checked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        plugin: &Plugin,
        client: ClientNetwork,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WireError> {
        let _turn = self.turn(client).await;
        let _thread = acquire(self.threads.clone()).await;
        plugin.aside(check).await.map_err(|error| {
            tracing::error!(plugin = &**plugin.name(), "a check ended with {error}");
            WireError::new("internal", "the server failed")
        })
    }

    async fn turn(&self, client: ClientNetwork) -> Turn<'_> {
        let mut turn = {
            let mut clients = self.clients.lock();
            let own = clients.entry(client);
            let own = own.or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
            Turn {
                checks: self,
                client,
                own,
                permit: None,
            }
        };
        turn.permit = Some(acquire(turn.own.clone()).await);
        turn
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = semaphore.acquire_owned().await;
    permit.expect("nobody closes the semaphores of checks")
}

/// A client's turn, or its wait for that.
struct Turn<'a> {
    checks: &'a Checks,
    client: ClientNetwork,
    own: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut clients = self.checks.clients.lock();
        // This one and the table's: nobody else waits.
        if Arc::strong_count(&self.own) == 2 {
            clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt;

    use super::*;
    use crate::address::ClientAddress;

    fn client(last: u8) -> ClientNetwork {
        ClientAddress::from(IpAddr::from([10, 0, 0, last])).network()
    }

    #[tokio::test]
    async fn a_client_waits_for_its_own_checks_and_nothing_is_kept_of_it() {
        let checks = Checks::default();
        let first = checks.turn(client(1)).now_or_never();
        assert!(first.is_some());
        assert!(checks.turn(client(1)).now_or_never().is_none());
        assert!(checks.turn(client(2)).now_or_never().is_some());
        let mut waiting = Box::pin(checks.turn(client(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.now_or_never().is_some());
        assert!(checks.clients.lock().is_empty());
    }
}
