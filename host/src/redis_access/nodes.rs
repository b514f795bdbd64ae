//! The nodes of a Redis Cluster.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    RedisResult, Value,
};

/// How long a node may take to say where a slot is. There are others.
const ANSWER: Duration = Duration::from_millis(700);

/// The nodes that are known, and the slot that is looked for.
pub(crate) struct Nodes {
    /// Those of the configuration, which say how to connect.
    seeds: Vec<ConnectionInfo>,
    /// Those that the cluster had when it was last asked: the seeds may all have been replaced since.
    known: Mutex<Vec<ConnectionInfo>>,
    slot: u16,
}

/// What a node says of the slot.
struct Owners {
    master: ConnectionInfo,
    /// All nodes.
    nodes: Vec<ConnectionInfo>,
}

impl Nodes {
    pub(super) fn new(seeds: Vec<ConnectionInfo>, slot: u16) -> Self {
        Self {
            seeds,
            known: Mutex::default(),
            slot,
        }
    }

    /// The node that has the slot by now.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        let mut asked = self.known.lock().clone();
        asked.extend(self.seeds.iter().cloned());
        let mut failure = (ErrorKind::Client, "no node says who has the keys").into();
        for node in asked {
            match self.ask(&node).await {
                Ok(Some(Owners { master, nodes })) => {
                    *self.known.lock() = nodes;
                    return Client::open(master);
                }
                Ok(None) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn ask(&self, node: &ConnectionInfo) -> RedisResult<Option<Owners>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let client = Client::open(node.clone())?;
        let mut redis = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        let ranges: Vec<Vec<Value>> = slots.query_async(&mut redis).await?;
        Ok(self.read(node, &ranges))
    }

    /// Reads `CLUSTER SLOTS`: the first and the last of some slots, their master, and replicas.
    fn read(&self, asked: &ConnectionInfo, ranges: &[Vec<Value>]) -> Option<Owners> {
        let mut master = None;
        let mut nodes = Vec::new();
        for range in ranges {
            let [first, last, its @ ..] = &**range else {
                continue;
            };
            let mut its = its.iter().filter_map(|node| at(asked, node)).peekable();
            let number = |value| u16::from_redis_value_ref(value).ok();
            let has_it = number(first)? <= self.slot && self.slot <= number(last)?;
            if has_it {
                master = its.peek().cloned();
            }
            nodes.extend(its);
        }
        Some(Owners {
            master: master?,
            nodes,
        })
    }
}

/// A node, with all that is known of how to connect from the one that was asked.
fn at(asked: &ConnectionInfo, node: &Value) -> Option<ConnectionInfo> {
    let Value::Array(node) = node else {
        return None;
    };
    let host = String::from_redis_value_ref(node.first()?).unwrap_or_default();
    let port = u16::from_redis_value_ref(node.get(1)?).ok()?;
    // A node that does not know its own address says nothing of it, and was asked there.
    let host = |own: &str| match &*host {
        "" | "?" => own.to_owned(),
        host => host.to_owned(),
    };
    let address = match asked.addr().clone() {
        ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(host(&own), port),
        ConnectionAddr::TcpTls {
            host: own,
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host: host(&own),
            port,
            insecure,
            tls_params,
        },
        other => other,
    };
    Some(asked.clone().set_addr(address))
}
