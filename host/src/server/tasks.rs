//! What works while a server serves: each of its tasks, by the part that it keeps going.

use std::{sync::Arc, time::Duration};

use axum::Router;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    broadcast::Broadcast,
    cluster::Cluster,
    directory::Directory,
    dispatch::Dispatcher,
    reload::{Reloader, Request},
    revocation::Revocations,
    store::Store,
    tasks::Task,
    transport::{Connections, Listener, Sessions, serve},
};

/// Keeps plugins and `mixlab.toml` current.
pub(super) struct Reload {
    pub(super) reloader: Reloader,
    pub(super) requests: mpsc::Receiver<Request>,
}

impl Task for Reload {
    const NAME: &'static str = "reload";

    async fn run(&mut self, stop: &CancellationToken) {
        self.reloader.run(&mut self.requests, stop).await;
    }
}

/// Opens and closes namespaces.
pub(super) struct FollowNamespaces {
    pub(super) directory: Arc<Directory>,
    pub(super) published: watch::Receiver<()>,
}

impl Task for FollowNamespaces {
    const NAME: &'static str = "namespaces";

    async fn run(&mut self, stop: &CancellationToken) {
        let directory = self.directory.clone();
        directory.follow(self.published.clone(), stop.clone()).await;
    }
}

/// Ends connections with the tokens of their users.
pub(super) struct EndWithTokens(pub(super) Arc<Dispatcher>);

impl Task for EndWithTokens {
    const NAME: &'static str = "tokens";

    async fn run(&mut self, stop: &CancellationToken) {
        self.0.clone().end_with_tokens(stop.clone()).await;
    }
}

/// Ends connections whose tokens are revoked.
pub(super) struct EndRevoked(pub(super) Arc<Dispatcher>, pub(super) Arc<Revocations>);

impl Task for EndRevoked {
    const NAME: &'static str = "revocations";

    async fn run(&mut self, stop: &CancellationToken) {
        let Self(dispatcher, revocations) = self;
        let ending = dispatcher
            .clone()
            .end_revoked(revocations.clone(), stop.clone());
        ending.await;
    }
}

/// Tells rooms who is present in them.
pub(super) struct TellPresence(pub(super) Broadcast);

impl Task for TellPresence {
    const NAME: &'static str = "presence";

    async fn run(&mut self, stop: &CancellationToken) {
        self.0.tell_presence(stop).await;
    }
}

/// Keeps the time of all sessions.
pub(super) struct Sweep(pub(super) Arc<Sessions>);

impl Task for Sweep {
    const NAME: &'static str = "sessions";

    async fn run(&mut self, stop: &CancellationToken) {
        // What is due once the server stops is its end.
        tokio::select! {
            () = self.0.sweep.run() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Performs what follows commits to the store.
pub(super) struct Settle(pub(super) Arc<Store>);

impl Task for Settle {
    const NAME: &'static str = "store";

    async fn run(&mut self, _stop: &CancellationToken) {
        // Calls that are under way when the server stops are committed still.
        self.0.settle().await;
    }
}

/// Lets clients in. When it ends, the port is closed.
pub(super) struct Accept {
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) listener: Listener,
    pub(super) router: Router,
    pub(super) request_timeout: Duration,
    /// Until this is cancelled.
    pub(super) accepting: CancellationToken,
    pub(super) connections: Connections,
}

impl Task for Accept {
    const NAME: &'static str = "accept";

    async fn run(&mut self, stop: &CancellationToken) {
        let Self {
            cluster,
            listener,
            router,
            request_timeout,
            accepting,
            connections,
        } = self;
        if let Some(cluster) = cluster {
            // Whoever came before would not get what other servers send meanwhile.
            stop.run_until_cancelled(cluster.catches_up()).await;
        }
        let ends = (&*accepting, stop);
        serve(listener, router, *request_timeout, ends, connections).await;
        stop.cancelled().await;
    }
}
