//! The connections to Redis.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{
    RedisError, RedisResult, Value,
    aio::{MultiplexedConnection, PubSub},
};
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::{config, redis_access::RedisAccess};

/// What the keys of sessions begin with in Node's adapter.
const NODE_SESSIONS: &str = "sio:session:";

/// How long Redis may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// How long it may hold an answer back that waits for entries.
pub(super) const BLOCK: Duration = Duration::from_secs(2);

/// What members of the cluster have in common.
pub(super) struct Link {
    access: RedisAccess,
    /// The key of the stream, and what channels begin with.
    pub prefix: Arc<str>,
    /// What keys begin with that only MixLab's servers know.
    own_prefix: String,
    /// What the keys of sessions begin with.
    pub session_prefix: String,
    /// So many entries are kept for clients that come back, and for servers that are behind.
    pub max_entries: usize,
    /// How many times the reader has read all that there was, after it had connected; 0 while it is not
    /// connected.
    pub round: watch::Sender<Round>,
    shared: AsyncMutex<Option<MultiplexedConnection>>,
    /// A random text that is in Redis as long as all the rest, as the reader has last seen it.
    life: Mutex<Option<String>>,
}

/// How the reader gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Round {
    /// Counts its connections.
    pub number: u64,
    /// Whether it has read all that there was when it had connected, and is connected still.
    pub has_caught_up: bool,
}

impl Link {
    /// Nothing is connected yet.
    pub(super) fn new(url: &config::RedisUrl, config: &config::Cluster) -> Self {
        let servers = url.servers();
        let own_prefix = servers.own_prefix(&config.prefix);
        // Node's would be all over a Redis Cluster.
        let session_prefix = match servers.is_clustered() {
            true => format!("{own_prefix}:mixlab:session:"),
            false => NODE_SESSIONS.to_owned(),
        };
        Self {
            access: RedisAccess::new(servers, &config.prefix),
            prefix: config.prefix.as_str().into(),
            own_prefix,
            session_prefix,
            max_entries: config.max_entries,
            round: watch::Sender::default(),
            shared: AsyncMutex::default(),
            life: Mutex::default(),
        }
    }

    /// A new connection, for requests that are answered at once.
    pub(super) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.access.connect(ANSWER).await
    }

    /// Whether a Redis that has said so has to be looked for anew.
    pub(super) fn is_elsewhere(&self, error: &RedisError) -> bool {
        self.access.is_elsewhere(error)
    }

    /// A new connection, for requests that wait for entries.
    pub(super) async fn connect_to_wait(&self) -> RedisResult<MultiplexedConnection> {
        self.access.connect(BLOCK + ANSWER).await
    }

    /// A connection that all share who ask for little.
    pub(super) async fn shared(&self) -> RedisResult<MultiplexedConnection> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &*shared {
            return Ok(connection.clone());
        }
        let connection = self.connect().await?;
        *shared = Some(connection.clone());
        Ok(connection)
    }

    /// Whether Redis still has what it had when this was last asked.
    pub(super) async fn begin_life(&self, redis: &mut MultiplexedConnection) -> RedisResult<bool> {
        let new = format!("{:016x}", rand::random::<u64>());
        let mut set = redis::cmd("SET");
        set.arg(self.life_key()).arg(new).arg("NX");
        set.query_async::<Value>(redis).await?;
        let life = self.read_life(redis).await?;
        let mut known = self.life.lock();
        let is_same = known.is_none() || *known == life;
        *known = life;
        Ok(is_same)
    }

    /// Whether Redis has what the reader has seen. One that has been started since has not.
    pub(super) async fn is_same_life(
        &self,
        redis: &mut MultiplexedConnection,
    ) -> RedisResult<bool> {
        let life = self.read_life(redis).await?;
        Ok(*self.life.lock() == life)
    }

    async fn read_life(&self, redis: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
        redis::cmd("GET")
            .arg(self.life_key())
            .query_async(redis)
            .await
    }

    fn life_key(&self) -> String {
        self.key("life")
    }

    /// A key that only MixLab's servers know.
    pub(super) fn key(&self, what: &str) -> String {
        format!("{}:mixlab:{what}", self.own_prefix)
    }

    /// The shared connection is lost: whoever asks next gets a new one.
    pub(super) async fn forget_shared(&self) {
        *self.shared.lock().await = None;
    }

    /// What matches the prefix alone.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for character in self.prefix.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern
    }

    /// A new connection, to listen to channels.
    pub(super) async fn subscribe(&self) -> RedisResult<PubSub> {
        self.access.subscribe().await
    }
}
