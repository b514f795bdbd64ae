//! The tasks of a server of a cluster. They end when the server has left it, which is after its last words.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    broadcast::Broadcast,
    cluster::{self, Cluster, Here, Written},
    socket::Sockets,
    tasks::{Task, Tasks},
    transport::SessionKey,
};

/// Starts them.
pub(super) fn spawn(tasks: &Tasks, cluster: &Arc<Cluster>, sockets: &Arc<Sockets>) {
    let broadcast = || sockets.dispatcher.broadcast.clone();
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
    if cluster.shares_turns() {
        tasks.spawn(KeepTurns(cluster.clone()));
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
    tasks.spawn(Beat(cluster.clone()));
    tasks.spawn(KnowWhoIsPresent {
        cluster: cluster.clone(),
        broadcast: broadcast(),
    });
    tasks.spawn(TellForOthers {
        cluster: cluster.clone(),
        sockets: sockets.clone(),
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
        let touch_if_gone = async {
            loop {
                self.cluster.was_gone().await;
                // Others may have taken some of them.
                self.broadcast.touch();
            }
        };
        tokio::select! {
            () = self.cluster.keep_sessions(&self.broadcast) => {}
            () = touch_if_gone => {}
            () = self.cluster.closed() => {}
        }
    }
}

impl Here for Broadcast {
    fn look(&self, client: SessionKey, namespace: &str) -> Option<Written> {
        self.connections().get(client, namespace)?.carry()
    }

    fn touch(&self) {
        let all = self.connections().all();
        all.iter().for_each(|connection| connection.has_changed());
    }

    fn let_go(&self, client: SessionKey, namespace: &str) {
        if let Some(connection) = self.connections().get(client, namespace) {
            tracing::info!(socket = connection.id, "another server has this connection");
            connection.end_transport();
        }
    }
}

/// Says that this server is there.
struct Beat(Arc<Cluster>);

impl Task for Beat {
    const NAME: &'static str = "cluster-beat";

    async fn run(&mut self, _stop: &CancellationToken) {
        tokio::select! {
            () = self.0.say_here() => {}
            () = self.0.closed() => self.0.leave_ends().await,
        }
    }
}

/// Learns who is present in rooms by other servers, and by whom nobody is any more.
struct KnowWhoIsPresent {
    cluster: Arc<Cluster>,
    broadcast: Broadcast,
}

impl Task for KnowWhoIsPresent {
    const NAME: &'static str = "cluster-presence";

    async fn run(&mut self, stop: &CancellationToken) {
        let presence = self.broadcast.presence();
        let lose_others = async {
            let mut there = self.cluster.there();
            while there.changed().await.is_ok() {
                let there = there.borrow_and_update().clone();
                presence.others_are(&there);
            }
        };
        tokio::select! {
            () = presence.catch_up(self.cluster.heard_of()) => {}
            () = lose_others => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Tells plugins of the ends of connections whose servers are gone.
struct TellForOthers {
    cluster: Arc<Cluster>,
    sockets: Arc<Sockets>,
}

impl Task for TellForOthers {
    const NAME: &'static str = "cluster-ends";

    async fn run(&mut self, stop: &CancellationToken) {
        let tell = |carried| self.sockets.tell_lost(carried);
        tokio::select! {
            () = self.cluster.tell_for_others(tell) => {}
            () = stop.cancelled() => {}
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

/// Has calls of all servers with a common key run one after the other.
struct KeepTurns(Arc<Cluster>);

impl Task for KeepTurns {
    const NAME: &'static str = "cluster-turns";

    async fn run(&mut self, _stop: &CancellationToken) {
        tokio::select! {
            () = self.0.keep_turns() => {}
            () = self.0.closed() => {}
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
