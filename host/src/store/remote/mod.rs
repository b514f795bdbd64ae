//! The store in Redis, which all servers that use it have in common.
//!
//! A call reads through, by a connection of the store's own, and remembers which commit wrote what it has
//! read. To commit is one script ([`script`]): it looks whether all of that is still so, and applies the
//! writes, or nothing. The scripts of one server leave in the order of its calls, many at once, and what
//! follows is performed in that order ([`commits`]).
//!
//! While Redis is away, what reads or writes fails at once. Of a commit that was sent and not answered, the
//! script leaves word in Redis, so that it can be sent again and happens once. One that took too long, so that its client
//! was told that nobody knows, is not sent again: what came of it is asked for, and if that is nothing yet, it stays so.

mod commits;
mod names;
mod script;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::{RedisError, RedisResult, aio::MultiplexedConnection, streams::StreamRangeReply};
use tokio::{
    sync::{Notify, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    commits::{Commit, Commits, Following},
    names::Names,
    script::Scripts,
};
use super::{
    CommitError, Committing, Follow, Key, Shared, Signals, Value,
    following::tell,
    transaction::{Range, Stood, Transaction},
};
use crate::{clock::now, config, rarely::Rarely, redis_access::RedisAccess};

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Pause before Redis is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// How often its clock is looked at, whether it takes what is written, and which keys' time is over.
const LOOK: Duration = Duration::from_secs(1);

/// How long a store that is opened waits for Redis. It goes on without.
const OPENED_WITHIN: Duration = Duration::from_secs(2);

/// How often it is looked whether all is committed when it is closed.
const CLOSING: Duration = Duration::from_millis(2);

/// So many keys are deleted at once whose time is over.
const EXPIRED_AT_ONCE: usize = 500;

/// So many news are read at once.
const NEWS_AT_ONCE: usize = 1000;

/// So many commits are sent at once.
const SENT_AT_ONCE: usize = 500;

/// What is said to plugins and clients; the log says more.
const AWAY: &str = "the store's Redis does not answer";

/// The store in Redis.
pub struct Remote {
    config: config::Store,
    access: RedisAccess,
    names: Names,
    scripts: Scripts,
    /// None while Redis is away.
    line: ArcSwapOption<Line>,
    commits: Commits,
    /// A read has failed: it is looked whether the connection is there still.
    lost: Notify,
    /// Why nothing can be written now; none if it can.
    failure: Mutex<Option<Arc<str>>>,
    refusals: Rarely,
    signals: Signals,
    closed: CancellationToken,
}

/// A connection.
struct Line {
    redis: MultiplexedConnection,
    /// How far Redis' clock is ahead of this machine's, in milliseconds.
    ahead: i64,
}

/// What outlives a connection.
#[derive(Default)]
struct Kept {
    /// Commits that were sent and not answered.
    sent: Vec<Commit>,
    /// Up to where the news were read; none before the first connection.
    news: Option<String>,
}

impl Line {
    /// What Redis' clock shows when this machine's shows `time`.
    fn there(&self, time: u64) -> u64 {
        time.saturating_add_signed(self.ahead)
    }

    /// What this machine's clock shows when Redis' shows `time`.
    fn here(&self, time: u64) -> u64 {
        time.saturating_add_signed(-self.ahead)
    }
}

impl Remote {
    /// Connects, and waits a moment for that. Blocks.
    pub(super) fn start(config: config::Store, shared: &Shared, signals: Signals) -> Arc<Self> {
        let remote = Arc::new(Self {
            config,
            access: RedisAccess::new(shared.url.servers(), &shared.prefix),
            names: Names::new(&shared.url.servers().own_prefix(&shared.prefix)),
            scripts: Scripts::new(),
            line: ArcSwapOption::empty(),
            commits: Commits::new(),
            lost: Notify::new(),
            failure: Mutex::default(),
            refusals: Rarely::default(),
            signals,
            closed: CancellationToken::new(),
        });
        let running = remote.clone();
        shared.runtime.spawn(async move { running.run().await });
        let since = Instant::now();
        while remote.line.load().is_none() && since.elapsed() < OPENED_WITHIN {
            thread::sleep(CLOSING);
        }
        remote
    }

    /// What it is configured to be.
    pub(super) fn config(&self) -> &config::Store {
        &self.config
    }

    /// Why nothing can be written now; none if it can.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        if self.line.load().is_none() {
            return Some(AWAY.into());
        }
        self.failure.lock().clone()
    }

    /// Waits for what was to be committed. Nothing is committed any more. Blocks.
    pub(super) fn close(&self) {
        self.commits.close();
        let since = Instant::now();
        while self.commits.under_way() > 0 && since.elapsed() < self.config.commit_timeout {
            thread::sleep(CLOSING);
        }
        self.closed.cancel();
    }

    /// A key's value, whether its time is over or not, and the commit that wrote it.
    pub(super) async fn read(&self, key: &Key) -> Result<(u64, Option<Value>), CommitError> {
        let line = self.line()?;
        let mut redis = line.redis.clone();
        let row: Option<Vec<u8>> = redis::cmd("HGET")
            .arg(self.names.values(key.bucket_name()))
            .arg(key.name())
            .query_async(&mut redis)
            .await
            .map_err(|error| self.unread(error))?;
        Ok(match row.as_deref().and_then(|row| read_row(row, &line)) {
            Some((at, value)) => (at, Some(value)),
            None => (0, None),
        })
    }

    /// So many keys of a range at `most`, and no more than have so many bytes, but one. Whether that cut them.
    pub(super) async fn read_range(
        &self,
        range: &mut Range,
        most: usize,
        bytes: usize,
    ) -> Result<(BTreeMap<Key, Value>, bool), CommitError> {
        let line = self.line()?;
        let mut redis = line.redis.clone();
        let bucket = range.prefix.bucket();
        let (from, to) = names::bounds(range);
        let scan = &self.scripts.scan;
        let mut invocation = scan.key(self.names.values(bucket.as_str()));
        invocation.key(self.names.keys(bucket.as_str()));
        invocation
            .arg(from)
            .arg(to)
            .arg(most)
            .arg(bytes)
            .arg(line.there(now()));
        type Scanned = (String, u64, bool, Vec<(String, Vec<u8>)>);
        let scanned: RedisResult<Scanned> = invocation.invoke_async(&mut redis).await;
        let (hash, count, is_cut, rows) = scanned.map_err(|error| self.unread(error))?;
        range.stood = Some(Stood { count, hash });
        let mut found = BTreeMap::new();
        for (name, row) in rows {
            if let (Ok(key), Some((_, value))) = (Key::new(&bucket, &name), read_row(&row, &line)) {
                found.insert(key, value);
            }
        }
        if is_cut || found.len() == most {
            range.last = found.keys().next_back().cloned();
        }
        Ok((found, is_cut))
    }

    /// Whether nobody else deals with what the commit `at` has written under a key. For so long nobody else does.
    pub(super) async fn claim(
        &self,
        key: &Key,
        at: u64,
        time: Duration,
    ) -> Result<bool, CommitError> {
        let line = self.line()?;
        let mut redis = line.redis.clone();
        let claimed: Option<String> = redis::cmd("SET")
            .arg(self.names.claim(key, at))
            .arg("")
            .arg("NX")
            .arg("PX")
            .arg(time.as_millis() as u64)
            .query_async(&mut redis)
            .await
            .map_err(|error| self.unread(error))?;
        Ok(claimed.is_some())
    }

    /// Commits a transaction. What follows is performed when Redis has answered.
    pub(super) fn commit<F: Follow>(
        &self,
        transaction: &Transaction,
        follow: Box<F>,
    ) -> Committing<F> {
        let line = self.line();
        if line.is_err() && !transaction.has_to_be_validated() {
            tell(follow, Ok(()));
            return Committing::Over(Ok(()));
        }
        let line = match line {
            Ok(line) => line,
            Err(error) => return Committing::Over(Err((error, follow))),
        };
        let scripts = &self.scripts;
        let request = transaction
            .has_to_be_validated()
            .then(|| scripts.commit(transaction, &self.names, &line, &self.config));
        let of_host = transaction.writes().keys().filter(|key| key.is_of_host());
        let of_host = of_host.cloned().collect();
        let (told, tells) = oneshot::channel();
        let following = Following::new(follow, told, of_host);
        let commit = Commit::new(request, Box::new(following));
        if let Err(commit) = self.commits.push(commit) {
            commit.refuse(CommitError::Unavailable("the store is closed".into()));
        }
        if self.line.load().is_none() {
            // It was lost meanwhile, and nobody sends what came after that.
            self.refuse_waiting();
        }
        Committing::Later(Box::pin(async move {
            // It is dropped with the store, which nobody waits for.
            tells.await.unwrap_or(Ok(()))
        }))
    }

    /// Redis has not been read. If the connection is lost, nobody else tries it.
    fn unread(&self, error: RedisError) -> CommitError {
        tracing::debug!(%error, "the store's Redis cannot be read");
        if !self.is_refused(&error) {
            self.lost.notify_one();
        }
        CommitError::Unavailable(AWAY.into())
    }

    /// Whether Redis has answered, nothing has happened, and no other one would say otherwise.
    fn is_refused(&self, error: &RedisError) -> bool {
        is_refused(error) && !self.access.is_elsewhere(error)
    }

    fn line(&self) -> Result<Arc<Line>, CommitError> {
        let line = self.line.load_full();
        line.ok_or_else(|| CommitError::Unavailable(AWAY.into()))
    }

    fn refuse_waiting(&self) {
        for commit in self.commits.take(usize::MAX) {
            commit.refuse(CommitError::Unavailable(AWAY.into()));
        }
    }

    /// Keeps the connection, and commits by it, until the store is closed.
    async fn run(&self) {
        let mut kept = Kept::default();
        loop {
            let error = tokio::select! {
                Err(error) = self.serve(&mut kept) => error,
                () = self.closed.cancelled() => return,
            };
            if self.line.swap(None).is_some() {
                tracing::error!(%error, "the store's Redis is away: what reads or writes fails");
            } else {
                tracing::debug!(%error, "the store's Redis is away still");
            }
            for commit in &mut kept.sent {
                commit.give_up_after(self.config.commit_timeout);
            }
            self.refuse_waiting();
            sleep(PAUSE).await;
        }
    }

    /// Serves by a new connection, as long as it lasts.
    async fn serve(&self, kept: &mut Kept) -> RedisResult<Infallible> {
        let mut redis = self.access.connect(ANSWER).await?;
        self.scripts.load(&mut redis).await?;
        self.look(&mut redis).await?;
        if kept.news.is_none() {
            kept.news = Some(self.newest(&mut redis).await?);
        }
        // Before what is new, since it may have come before that.
        self.send(&mut redis, &mut kept.sent).await?;
        tracing::info!("the store is in Redis, and connected");
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.commits.some() => {}
                () = self.lost.notified() => self.look(&mut redis).await?,
                _ = looks.tick() => {
                    self.look(&mut redis).await?;
                    self.read_news(&mut redis, kept).await?;
                    self.expire(&mut redis).await?;
                }
            }
            loop {
                kept.sent.extend(self.commits.take(SENT_AT_ONCE));
                if kept.sent.is_empty() {
                    break;
                }
                self.send(&mut redis, &mut kept.sent).await?;
            }
        }
    }

    /// Sends commits, and has performed what follows those that are answered with yes.
    async fn send(
        &self,
        redis: &mut MultiplexedConnection,
        sent: &mut Vec<Commit>,
    ) -> RedisResult<()> {
        commits::drop_unwanted(sent);
        let answers =
            commits::send(redis, sent, &self.scripts, &self.config, &self.refusals).await?;
        let (mut settled, mut committed) = (0, 0);
        for (commit, answer) in sent.drain(..).zip(answers) {
            if !commit.is_waited_for() {
                settled += 1;
                committed += u32::from(answer.is_ok());
            }
            commit.answered(answer, &self.signals);
        }
        if settled > 0 {
            tracing::warn!(
                calls = settled,
                committed,
                "it is known what became of calls of which nobody knew"
            );
        }
        Ok(())
    }

    /// Looks what the clock of Redis shows, and whether it takes what is written.
    async fn look(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        let before = now();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(redis).await?;
        let shows = seconds * 1000 + micros / 1000;
        let ahead = shows.cast_signed() - before.midpoint(now()).cast_signed();
        let probed: RedisResult<()> = redis::cmd("SET")
            .arg(self.names.probe())
            .arg(shows)
            .query_async(redis)
            .await;
        let failure = match probed {
            Ok(()) => None,
            Err(error) if self.is_refused(&error) => Some(error.to_string().into()),
            Err(error) => return Err(error),
        };
        let former = std::mem::replace(&mut *self.failure.lock(), failure.clone());
        match (&former, &failure) {
            (None, Some(reason)) => tracing::error!("the store's Redis writes nothing: {reason}"),
            (Some(_), None) => tracing::info!("the store's Redis writes again"),
            _ => {}
        }
        let redis = redis.clone();
        self.line.store(Some(Arc::new(Line { redis, ahead })));
        Ok(())
    }

    /// Where the news end. What was written before is read by whoever looks for timers.
    async fn newest(&self, redis: &mut MultiplexedConnection) -> RedisResult<String> {
        let newest: StreamRangeReply = redis::cmd("XREVRANGE")
            .arg(self.names.news())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(redis)
            .await?;
        let id = newest.ids.into_iter().next().map(|entry| entry.id);
        Ok(id.unwrap_or_else(|| "0-0".to_owned()))
    }

    /// Reads which keys of the host other servers have written, and this one, which knows of them.
    async fn read_news(
        &self,
        redis: &mut MultiplexedConnection,
        kept: &mut Kept,
    ) -> RedisResult<()> {
        loop {
            let read = kept.news.as_deref().unwrap_or("0-0");
            let news: StreamRangeReply = redis::cmd("XRANGE")
                .arg(self.names.news())
                .arg(format!("({read}"))
                .arg("+")
                .arg("COUNT")
                .arg(NEWS_AT_ONCE)
                .query_async(redis)
                .await?;
            let Some(last) = news.ids.last() else {
                return Ok(());
            };
            kept.news = Some(last.id.clone());
            let keys = news
                .ids
                .iter()
                .filter_map(|entry| entry.get::<String>("key"));
            let keys = keys.map(|key| Key::parse(&key)).collect();
            self.signals.written.announce(keys);
        }
    }

    /// Deletes keys whose time is over.
    async fn expire(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        let Some(line) = self.line.load_full() else {
            return Ok(());
        };
        let expired: Vec<Vec<u8>> = redis::cmd("ZRANGEBYSCORE")
            .arg(self.names.expiries())
            .arg("-inf")
            .arg(line.there(now()))
            .arg("LIMIT")
            .arg(0)
            .arg(EXPIRED_AT_ONCE)
            .query_async(redis)
            .await?;
        let (mut keys, mut others) = (Vec::new(), Vec::new());
        for expired in expired {
            match str::from_utf8(&expired) {
                Ok(key) if key.contains('\0') => keys.push(Key::parse(key)),
                _ => others.push(expired),
            }
        }
        if !others.is_empty() {
            // They would be in the way of keys.
            let mut remove = redis::cmd("ZREM");
            remove.arg(self.names.expiries()).arg(others);
            remove.query_async::<redis::Value>(redis).await?;
        }
        if keys.is_empty() {
            return Ok(());
        }
        let expire = self.scripts.expire(&keys, &self.names, &self.config);
        match expire.query_async::<redis::Value>(redis).await {
            Err(error) if !is_refused(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether Redis has answered, and nothing has happened.
fn is_refused(error: &RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind};
    match error.kind() {
        // The connection brings the scripts with it, and what loads will be there again.
        ErrorKind::Server(ServerErrorKind::NoScript | ServerErrorKind::BusyLoading) => false,
        ErrorKind::Server(_) | ErrorKind::Extension => true,
        _ => false,
    }
}

/// A row: the commit that wrote it, when it is gone by Redis' clock, or 0, and its bytes, with a blank
/// between them.
fn read_row(row: &[u8], line: &Line) -> Option<(u64, Value)> {
    let mut parts = row.splitn(3, |byte| *byte == b' ');
    let mut number = || str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
    let (at, expires) = (number()?, number()?);
    let value = Value {
        bytes: parts.next()?.into(),
        expires: (expires > 0).then(|| line.here(expires)),
    };
    Some((at, value))
}
