//! The Redis that servers have in common: one, the master of several that Sentinel watches, or the node of a Redis
//! Cluster that has the cluster's keys.
//!
//! Whoever connects is told where it is by then. A connection that is lost, or that says that it is not there any
//! more, is given up by whoever has it, who connects anew: so a failover is an outage that ends by itself. All
//! keys have one slot, so that one node has them all, and a script may touch any of them; the redis crate's client
//! of clusters, which sends each command where its key is, would be a second kind of connection everywhere.

mod nodes;
mod slot;
mod url;

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisError, RedisResult,
    ServerErrorKind,
    aio::{MultiplexedConnection, PubSub},
    sentinel::{Sentinel, SentinelNodeConnectionInfo},
};
use tokio::{sync::Mutex, time::timeout};

use self::nodes::Nodes;
pub(crate) use self::url::Servers;

/// How long it may take to find out where the Redis is, and to connect.
const CONNECT: Duration = Duration::from_secs(2);

/// Finds the Redis, and connects.
pub(crate) enum RedisAccess {
    /// It is always there.
    One(Box<ConnectionInfo>),
    /// Sentinel knows.
    Watched {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        node: Box<SentinelNodeConnectionInfo>,
        /// Once it was asked.
        sentinel: Mutex<Option<Sentinel>>,
    },
    /// The nodes of the Redis Cluster know.
    Clustered(Nodes),
}

impl RedisAccess {
    /// To the Redis that has what begins with `prefix`.
    pub(crate) fn new(servers: &Servers, prefix: &str) -> Self {
        match servers.clone() {
            Servers::One(server) => Self::One(server),
            Servers::Watched {
                sentinels,
                master,
                node,
            } => Self::Watched {
                sentinels,
                master,
                node,
                sentinel: Mutex::default(),
            },
            Servers::Clustered(nodes) => Self::Clustered(Nodes::new(nodes, slot::of(prefix))),
        }
    }

    /// A new connection for requests that are answered within this time.
    pub(crate) async fn connect(&self, answer: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer));
        let client = self.client().await?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// A new connection, to listen to channels.
    pub(crate) async fn subscribe(&self) -> RedisResult<PubSub> {
        self.client().await?.get_async_pubsub().await
    }

    /// Whether a Redis that has said so has to be looked for anew: it is not the master any more, or has not these
    /// keys. Where there is only one, it is the one that cannot be used.
    pub(crate) fn is_elsewhere(&self, error: &RedisError) -> bool {
        let has_moved = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
            )
        );
        has_moved && !matches!(self, Self::One(_))
    }

    /// The Redis by now.
    async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::One(server) => Client::open((**server).clone()),
            Self::Watched {
                sentinels,
                master,
                node,
                sentinel,
            } => {
                let found = async {
                    let mut sentinel = sentinel.lock().await;
                    let sentinel = match &mut *sentinel {
                        Some(sentinel) => sentinel,
                        none => none.insert(Sentinel::build(sentinels.clone())?),
                    };
                    sentinel.async_master_for(master, Some(node)).await
                };
                within(found).await
            }
            Self::Clustered(nodes) => within(nodes.client()).await,
        }
    }
}

async fn within<T>(found: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let too_long = |_| {
        RedisError::from((
            ErrorKind::Io,
            "it takes too long to find out where the Redis is",
        ))
    };
    timeout(CONNECT, found).await.map_err(too_long)?
}
