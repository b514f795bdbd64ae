//! The tasks of a server of a cluster. They end when the server has left it, which is after its last words.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    broadcast::Broadcast,
    cluster::{self, Cluster},
    tasks::{Task, Tasks},
};

/// Starts them.
pub(super) fn spawn(tasks: &Tasks, cluster: &Arc<Cluster>, broadcast: &Broadcast) {
    let broadcast = || broadcast.clone();
    tasks.spawn(CountClients {
        cluster: cluster.clone(),
        broadcast: broadcast(),
    });
    tasks.spawn(ListenToCluster {
        channel: cluster::Channel::new(cluster.clone()),
        broadcast: broadcast(),
    });
    if cluster.passes_on().is_some() {
        tasks.spawn(Announce(cluster.clone()));
    }
    if cluster.hears_emitters() {
        tasks.spawn(ListenToEmitters(cluster::Listener::new(cluster.clone())));
    }
    tasks.spawn(SendToCluster {
        cluster: cluster.clone(),
        sender: cluster::Sender::new(cluster.clone()),
    });
    tasks.spawn(ReadFromCluster {
        cluster: cluster.clone(),
        reader: cluster::Reader::new(cluster.clone()),
        broadcast: broadcast(),
    });
    tasks.spawn(KeepSessions {
        cluster: cluster.clone(),
        broadcast: broadcast(),
    });
}

/// Sends what is for all servers of the cluster.
struct SendToCluster {
    cluster: Arc<Cluster>,
    sender: cluster::Sender,
}

impl Task for SendToCluster {
    const NAME: &'static str = "cluster-send";

    async fn run(&mut self, _stop: &CancellationToken) {
        tokio::select! {
            () = self.sender.run() => {}
            () = self.cluster.closed() => {}
        }
    }
}

/// Performs what servers of the cluster have sent.
struct ReadFromCluster {
    cluster: Arc<Cluster>,
    reader: cluster::Reader,
    broadcast: Broadcast,
}

impl Task for ReadFromCluster {
    const NAME: &'static str = "cluster-read";

    async fn run(&mut self, _stop: &CancellationToken) {
        tokio::select! {
            () = self.reader.run(&self.broadcast) => {}
            () = self.cluster.closed() => {}
        }
    }
}

/// Writes what other servers are to know of the connections here.
struct KeepSessions {
    cluster: Arc<Cluster>,
    broadcast: Broadcast,
}

impl Task for KeepSessions {
    const NAME: &'static str = "cluster-sessions";

    async fn run(&mut self, _stop: &CancellationToken) {
        let connections = self.broadcast.connections();
        let look = |client, namespace: &str| connections.get(client, namespace)?.carry();
        let touch = || {
            connections
                .all()
                .iter()
                .for_each(|connection| connection.has_changed());
        };
        tokio::select! {
            () = self.cluster.keep_sessions(look, touch) => {}
            () = self.cluster.closed() => {}
        }
    }
}

/// Says how many clients are here, and hears how many the others have.
struct CountClients {
    cluster: Arc<Cluster>,
    broadcast: Broadcast,
}

impl Task for CountClients {
    const NAME: &'static str = "cluster-clients";

    async fn run(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = self.cluster.count_clients(|| self.broadcast.clients_here()) => {}
            () = stop.cancelled() => self.cluster.leave_census().await,
        }
    }
}

/// Says where this server is, to whom requests may be passed on.
struct Announce(Arc<Cluster>);

impl Task for Announce {
    const NAME: &'static str = "cluster-address";

    async fn run(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = self.0.announce() => {}
            () = stop.cancelled() => self.0.withdraw().await,
        }
    }
}

/// Hears programs that are no servers and speak of sockets.
struct ListenToEmitters(cluster::Listener);

impl Task for ListenToEmitters {
    const NAME: &'static str = "cluster-emitters";

    async fn run(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = self.0.run() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Hears what servers of the cluster ask and answer.
struct ListenToCluster {
    channel: cluster::Channel,
    broadcast: Broadcast,
}

impl Task for ListenToCluster {
    const NAME: &'static str = "cluster-listen";

    async fn run(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = self.channel.run(&self.broadcast) => {}
            () = stop.cancelled() => {}
        }
    }
}
