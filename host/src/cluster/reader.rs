//! Reads what all servers have sent, in order, over lost connections.

use std::{collections::HashMap, sync::Arc, time::Duration};

use redis::{
    RedisResult,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamRangeReply, StreamReadReply},
};
use tokio::time::sleep;

use super::{
    Cluster, Entry, EntryId,
    entry::Received,
    link::{BLOCK, Round},
};

/// So many entries are read in one go.
const BATCH: usize = 500;

/// Pause before Redis is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// So many senders are remembered with the number of their last entry.
const MAX_SENDERS: usize = 10_000;

/// What is done with what is read.
pub(crate) trait Apply: Send + Sync + 'static {
    /// What an entry says happens here.
    fn apply(&self, id: EntryId, entry: Entry);

    /// Entries were lost: whoever has not seen what came before the next one has missed some.
    fn is_interrupted(&self);
}

/// The one who reads.
pub(crate) struct Reader {
    cluster: Arc<Cluster>,
    /// The last entry that was read; none before the first connection.
    last: Option<EntryId>,
    senders: HashMap<String, u64>,
    /// What was last said of the connection.
    is_lost: bool,
}

impl Reader {
    /// Reads from the end that the stream has when it is first connected.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            last: None,
            senders: HashMap::new(),
            is_lost: false,
        }
    }

    /// Reads, over lost connections.
    pub(crate) async fn run(&mut self, apply: &impl Apply) {
        loop {
            let ended = self.read(apply).await;
            self.cluster.link.round.send_modify(Round::is_lost);
            if let Err(error) = ended
                && !std::mem::replace(&mut self.is_lost, true)
            {
                tracing::error!(%error, "the connection to Redis is lost: nothing comes from other servers");
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads until the connection is lost, or the sender wants to know what has come in.
    async fn read(&mut self, apply: &impl Apply) -> RedisResult<()> {
        let mut redis = self.cluster.link.connect_to_wait().await?;
        let mut rounds = self.cluster.link.round.subscribe();
        let round = rounds.borrow_and_update().number;
        self.begin(&mut redis, apply).await?;
        while self.read_some(&mut redis, None, apply).await? {}
        self.cluster.link.round.send_modify(Round::has_caught_up);
        if std::mem::take(&mut self.is_lost) {
            tracing::info!("the connection to Redis is back");
        }
        loop {
            tokio::select! {
                read = self.read_some(&mut redis, Some(BLOCK), apply) => {
                    read?;
                }
                _ = rounds.wait_for(|now| now.number != round) => return Ok(()),
            }
        }
    }

    /// Finds out where to go on.
    async fn begin(
        &mut self,
        redis: &mut MultiplexedConnection,
        apply: &impl Apply,
    ) -> RedisResult<()> {
        let Some(last) = self.last else {
            let mut command = redis::cmd("XREVRANGE");
            command
                .arg(&*self.cluster.link.prefix)
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(1);
            let newest: StreamRangeReply = command.query_async(redis).await?;
            let id = newest
                .ids
                .first()
                .and_then(|entry| EntryId::parse(&entry.id));
            self.last = Some(id.unwrap_or_default());
            return Ok(());
        };
        if last == EntryId::default() {
            return Ok(());
        }
        let mut command = redis::cmd("XRANGE");
        command
            .arg(&*self.cluster.link.prefix)
            .arg(last.to_string())
            .arg(last.to_string());
        let known: StreamRangeReply = command.query_async(redis).await?;
        if known.ids.is_empty() {
            tracing::error!(%last, "entries of the stream are gone that were not read: clients that drop now start afresh");
            apply.is_interrupted();
        }
        Ok(())
    }

    /// Reads what is there, or comes within `block`. Whether there was something.
    async fn read_some(
        &mut self,
        redis: &mut MultiplexedConnection,
        block: Option<Duration>,
        apply: &impl Apply,
    ) -> RedisResult<bool> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(BATCH);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis() as u64);
        }
        let last = self.last.unwrap_or_default();
        command
            .arg("STREAMS")
            .arg(&*self.cluster.link.prefix)
            .arg(last.to_string());
        let read: Option<StreamReadReply> = command.query_async(redis).await?;
        let entries: Vec<_> = read
            .into_iter()
            .flat_map(|read| read.keys)
            .flat_map(|key| key.ids)
            .collect();
        for entry in &entries {
            self.take(entry, apply);
        }
        Ok(!entries.is_empty())
    }

    fn take(&mut self, entry: &StreamId, apply: &impl Apply) {
        let Some(id) = EntryId::parse(&entry.id) else {
            return tracing::warn!(
                id = entry.id,
                "an entry of the stream has an id that Redis does not give"
            );
        };
        self.last = Some(id);
        let received = match Received::read(entry) {
            Ok(received) => received,
            Err(reason) => {
                return tracing::warn!(%id, %reason, "an entry of the stream is passed over");
            }
        };
        if let Some(sequence) = received.sequence {
            if !self.is_new(&received.sender, sequence) {
                return;
            }
            if *received.sender == *self.cluster.queue.name {
                self.cluster.queue.is_in(sequence);
            }
        }
        if let Some(entry) = received.entry {
            apply.apply(id, entry);
        }
    }

    /// Whether an entry of this sender has not been read before. It numbers them in their order.
    fn is_new(&mut self, sender: &str, sequence: u64) -> bool {
        if let Some(last) = self.senders.get_mut(sender) {
            let is_new = sequence > *last;
            *last = sequence.max(*last);
            return is_new;
        }
        if self.senders.len() >= MAX_SENDERS {
            // They have all been replaced long ago, but for some.
            self.senders.clear();
        }
        self.senders.insert(sender.to_owned(), sequence);
        true
    }
}

impl Round {
    /// The reader has no connection.
    fn is_lost(&mut self) {
        self.number += 1;
        self.has_caught_up = false;
    }

    /// It has read all that there was.
    fn has_caught_up(&mut self) {
        self.has_caught_up = true;
    }

    /// The sender has lost its own, and does not know what has come in.
    pub(super) fn ask_anew(&mut self) {
        self.is_lost();
    }
}
