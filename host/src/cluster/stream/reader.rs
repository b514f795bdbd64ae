//! Reads what all servers have sent, in order, over lost connections.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{
    FromRedisValue, RedisResult, Value,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamRangeReply, StreamReadReply},
};
use tokio::time::{Instant, sleep};

use super::entry::{Received, Unreadable};
use crate::cluster::{
    Change, Cluster, Entry, EntryId,
    asking::talk::Talk,
    link::{BLOCK, Round},
    trust::signing::Signing,
};

/// So many entries are read in one go.
const BATCH: usize = 500;

/// Pause before Redis is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A read that takes so much longer than it may was held up, with this process or with Redis.
const HELD_UP: Duration = Duration::from_millis(500);

/// The id before all entries.
const NOTHING: &str = "0-0";

/// So many senders are remembered with the number of their last entry.
const MAX_SENDERS: usize = 10_000;

/// What is done with what is read.
pub(crate) trait Apply: Send + Sync + 'static {
    /// Redis' clock shows this.
    fn redis_shows(&self, time: SystemTime);

    /// All entries from this place on follow; of events that are kept, all from `first_kept` on. Clients that are here
    /// already start afresh.
    fn begin(&self, first: EntryId, first_kept: EntryId);

    /// This entry was there before this server, whose clients may come here with what they have seen.
    fn remember(&self, id: EntryId, entry: Entry);

    /// What this entry says has happened here before it was in the stream.
    fn is_in(&self, id: EntryId, entry: Entry);

    /// What an entry says happens here.
    fn apply(&self, id: EntryId, entry: Entry);

    /// All up to this entry has happened here.
    fn has_applied(&self, last: EntryId);

    /// What an entry says happens here, before it is in the stream.
    fn apply_alone(&self, entry: Entry);

    /// Clients here have got what is not in the stream yet, or have no more.
    fn is_ahead(&self, is_ahead: bool);

    /// Entries were lost: who drops now, or has dropped, starts afresh. So does everybody who is here, if
    /// `has_missed` some.
    fn is_interrupted(&self, has_missed: bool);
}

/// The one who reads.
pub(crate) struct Reader {
    cluster: Arc<Cluster>,
    /// The id of the last entry that was read, as Redis gave it; none before the first connection.
    last: Option<String>,
    /// Whether Redis had that one when it was connected: it is not missed where all was lost before it.
    is_last_kept: bool,
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
            is_last_kept: true,
            senders: HashMap::new(),
            is_lost: false,
        }
    }

    /// Reads, over lost connections.
    pub(crate) async fn run(&mut self, apply: &impl Apply) {
        loop {
            let ended = self.read(apply).await;
            self.cluster.link.round.send_modify(Round::is_lost);
            if ended.is_ok() {
                // The sender has lost its connection. If Redis is away, what waits is not to wait for this one, too.
                continue;
            }
            self.cluster.go_on_alone(apply);
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
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await?;
        let micros = seconds.saturating_mul(1_000_000).saturating_add(micros);
        apply.redis_shows(UNIX_EPOCH + Duration::from_micros(micros));
        self.begin(&mut redis, apply).await?;
        self.cluster.note_ahead(apply);
        while self.read_some(&mut redis, None, apply).await? {}
        self.cluster.go_on_together(apply);
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
        let Some(last) = self.last.clone() else {
            return self.catch_up(redis, apply).await;
        };
        let is_known = last == NOTHING || !self.range(redis, &last, &last, 1).await?.is_empty();
        let is_same = self.cluster.link.begin_life(redis).await?;
        self.is_last_kept = is_known;
        if is_known && is_same {
            return Ok(());
        }
        let oldest = self.oldest(redis).await?;
        let goes_further_back = oldest < EntryId::parse(&last);
        if !is_same || goes_further_back {
            tracing::error!(
                "Redis has lost what it had: what was sent just now is sent again, and clients that drop start afresh"
            );
            self.cluster.queue.rewind(true);
            apply.is_interrupted(false);
        } else {
            self.has_missed(apply);
        }
        Ok(())
    }

    fn has_missed(&self, apply: &impl Apply) {
        tracing::error!(
            "entries of the stream are gone that were not read: all clients start afresh; `cluster.max_entries` are too few, \
             or this server was held up"
        );
        apply.is_interrupted(true);
    }

    /// Reads what clients may have missed that come here from other servers.
    async fn catch_up(
        &mut self,
        redis: &mut MultiplexedConnection,
        apply: &impl Apply,
    ) -> RedisResult<()> {
        let mut command = redis::cmd("XREVRANGE");
        command
            .arg(&*self.cluster.link.prefix)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1);
        let newest: StreamRangeReply = command.query_async(redis).await?;
        let newest = newest
            .ids
            .first()
            .map_or(NOTHING, |entry| &entry.id)
            .to_owned();
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(redis).await?;
        let since = seconds.saturating_sub(self.cluster.sessions.max_age().as_secs()) * 1000;
        let known_since = match &*newest {
            NOTHING => EntryId::default(),
            _ => self.known_since(redis, since).await?,
        };
        // Servers have in common what is kept for as long as the stream has it.
        let first_kept = match self.was_trimmed(redis).await? {
            true => self.oldest(redis).await?.unwrap_or(known_since),
            false => EntryId::default(),
        };
        apply.begin(known_since, first_kept);
        let mut from = "-".to_owned();
        loop {
            let page = self.range(redis, &from, &newest, BATCH).await?;
            for entry in &page {
                let Some((id, received)) = read(entry, &self.cluster.signing) else {
                    continue;
                };
                if let Some(sequence) = received.sequence {
                    self.standing(&received.sender, sequence);
                }
                let is_for_recovery = id.milliseconds() >= since;
                if let Some(entry) = received.entry
                    && (is_for_recovery || matches!(entry.change, Change::Keep(_)))
                {
                    apply.remember(id, entry);
                }
            }
            match page.last() {
                Some(last) if page.len() == BATCH => from = format!("({}", last.id),
                _ => break,
            }
        }
        self.last = Some(newest);
        self.cluster.link.begin_life(redis).await?;
        self.note_position(apply);
        Ok(())
    }

    /// From where on all entries are known of one who reads from this time on, in milliseconds since 1970: from
    /// behind the last one before that or, if there never was any, from the beginning.
    async fn known_since(
        &self,
        redis: &mut MultiplexedConnection,
        since: u64,
    ) -> RedisResult<EntryId> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&*self.cluster.link.prefix);
        command.arg(format!("({since}-0")).arg("-");
        command.arg("COUNT").arg(1);
        let before: StreamRangeReply = command.query_async(redis).await?;
        let before = before.ids.first();
        if let Some(last) = before.and_then(|entry| EntryId::parse(&entry.id)) {
            return Ok(EntryId::from_number(last.number() + 1));
        }
        match self.was_trimmed(redis).await? {
            true => Ok(EntryId::parse(&format!("{since}-0")).unwrap_or_default()),
            false => Ok(EntryId::default()),
        }
    }

    /// Whether the stream has lost entries, as far as Redis says.
    async fn was_trimmed(&self, redis: &mut MultiplexedConnection) -> RedisResult<bool> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&*self.cluster.link.prefix);
        let info: RedisResult<HashMap<String, Value>> = command.query_async(redis).await;
        let info = match info {
            Ok(info) => info,
            Err(error) if error.is_io_error() => return Err(error),
            // There never was any. The first may come at this moment.
            Err(error) if error.to_string().contains("no such key") => return Ok(false),
            // The user of Redis may not ask.
            Err(_) => return Ok(true),
        };
        let number = |name| u64::from_redis_value_ref(info.get(name)?).ok();
        // Redis 6 does not say how many there were.
        let all = number("entries-added");
        Ok(all.is_none() || all != number("length"))
    }

    async fn range(
        &self,
        redis: &mut MultiplexedConnection,
        from: &str,
        to: &str,
        most: usize,
    ) -> RedisResult<Vec<StreamId>> {
        let mut command = redis::cmd("XRANGE");
        command
            .arg(&*self.cluster.link.prefix)
            .arg(from)
            .arg(to)
            .arg("COUNT")
            .arg(most);
        let page: StreamRangeReply = command.query_async(redis).await?;
        Ok(page.ids)
    }

    /// The id of the oldest entry, if there is one.
    async fn oldest(&self, redis: &mut MultiplexedConnection) -> RedisResult<Option<EntryId>> {
        let oldest = self.range(redis, "-", "+", 1).await?;
        Ok(oldest.first().and_then(|entry| EntryId::parse(&entry.id)))
    }

    /// Up to here everything has happened.
    fn note_position(&self, apply: &impl Apply) {
        let last = self.last.as_deref().and_then(EntryId::parse);
        if let Some(last) = last {
            apply.has_applied(last);
            self.cluster
                .read_up_to
                .store(last.number(), Ordering::Release);
        }
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
        let last = self.last.as_deref().unwrap_or(NOTHING);
        command
            .arg("STREAMS")
            .arg(&*self.cluster.link.prefix)
            .arg(last);
        let began = Instant::now();
        let read: Option<StreamReadReply> = command.query_async(redis).await?;
        let entries: Vec<_> = read
            .into_iter()
            .flat_map(|read| read.keys)
            .flat_map(|key| key.ids)
            .collect();
        // What was trimmed before it was read is missing without a word.
        let was_held_up = began.elapsed() > block.unwrap_or_default() + HELD_UP;
        let may_miss = was_held_up || entries.len() == BATCH;
        if may_miss && self.is_last_kept && last != NOTHING {
            let known = self.range(redis, last, last, 1).await?;
            if known.is_empty() {
                self.has_missed(apply);
            }
        }
        for entry in &entries {
            self.take(entry, apply);
        }
        if let Some(entry) = entries.last() {
            self.last = Some(entry.id.clone());
            self.is_last_kept = true;
            if self.cluster.is_ahead.load(Ordering::Relaxed) {
                self.cluster.note_ahead(apply);
            }
        }
        self.note_position(apply);
        Ok(!entries.is_empty())
    }

    fn take(&mut self, entry: &StreamId, apply: &impl Apply) {
        let Some((id, received)) = read(entry, &self.cluster.signing) else {
            return;
        };
        if let Some(sequence) = received.sequence {
            let standing = self.standing(&received.sender, sequence);
            let is_own = *received.sender == *self.cluster.queue.name;
            let was_done = is_own && self.cluster.queue.is_in(sequence);
            match standing {
                Standing::Known => return,
                Standing::Next => {}
                Standing::BehindGap => self.has_missed(apply),
            }
            if was_done {
                if let Some(entry) = received.entry {
                    apply.is_in(id, entry);
                }
                return;
            }
        }
        if let Some(tag) = received.of
            && self.cluster.hears_emitters()
        {
            self.cluster.inbound.is_in(tag);
        }
        if let Some(entry) = received.entry {
            apply.apply(id, entry);
        }
        if let Some((elder, beat)) = received.beat {
            self.cluster.hear_elder(elder, beat);
        }
        let channels = &self.cluster.channels;
        match received.talk {
            Some(Talk::Answer(answer)) => channels.requests.answer(answer),
            // One too many gets no answer.
            Some(Talk::Question(question)) => drop(channels.questions.try_send(question)),
            None => {}
        }
    }

    /// What the number of an entry says of it. A sender counts its entries, in their order.
    fn standing(&mut self, sender: &str, sequence: u64) -> Standing {
        if let Some(last) = self.senders.get_mut(sender) {
            let standing = match sequence {
                sequence if sequence <= *last => Standing::Known,
                sequence if sequence == *last + 1 => Standing::Next,
                _ => Standing::BehindGap,
            };
            *last = sequence.max(*last);
            return standing;
        }
        if self.senders.len() >= MAX_SENDERS {
            // They have all been replaced long ago, but for some.
            self.senders.clear();
        }
        self.senders.insert(sender.to_owned(), sequence);
        Standing::Next
    }
}

/// How an entry stands to what came before it.
enum Standing {
    /// It has been read before.
    Known,
    /// It is the sender's next one, or the first that is seen of it.
    Next,
    /// Some that its sender has sent before it are gone.
    BehindGap,
}

/// What an entry says, if that can be read and is believed.
fn read(entry: &StreamId, signing: &Signing) -> Option<(EntryId, Received)> {
    let Some(id) = EntryId::parse(&entry.id) else {
        tracing::warn!(
            id = entry.id,
            "an entry of the stream has an id that Redis does not give"
        );
        return None;
    };
    if !signing.takes_entry(entry) {
        return None;
    }
    let passed_over = |reason: &Unreadable| {
        tracing::warn!(%id, %reason, "an entry of the stream is passed over");
    };
    let received = Received::read(entry).inspect_err(passed_over).ok()?;
    received.unreadable.iter().for_each(passed_over);
    Some((id, received))
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
    pub(crate) fn ask_anew(&mut self) {
        self.is_lost();
    }
}
