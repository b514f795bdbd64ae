//! Whose end plugins are still to hear of, by the servers that have these connections.
//!
//! A server that dies says nothing of its clients. Each says once a second that it is there; of those that do not,
//! the others tell plugins what has ended: of each connection one of them, which claims it. So plugins hear of
//! each visit of a client once, and again only where the one who tells them dies while it does.
//!
//! ```text
//! here (the server has the connection) => telling (it tells of the end, or whoever has claimed it) => told
//! here => told (its client is back elsewhere: whoever has the connection now tells, before plugins are asked anew)
//! ```
//!
//! A server that was held up may not know that it was taken for gone. So whoever tells of an end asks first whether
//! that is its own, and servers let go of connections that others have.

use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{Pipeline, RedisResult, Script, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Cluster, Written, asking::channel::within, link::Link, sessions};
use crate::recovery::{Carried, Visit};

/// How often a server says that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// A server that has said nothing for so long is gone, for those who have been there all that time.
const GONE: Duration = Duration::from_secs(10);

/// Who takes longer to say so was held up, or Redis was.
const LATE: Duration = Duration::from_secs(3);

/// So many connections are claimed in one go.
const BATCH: usize = 100;

/// Says that a server is there. Answers which ones are not and which are, and whether it may have been taken for gone.
const SAY: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone, max_age = tonumber(ARGV[2]), tonumber(ARGV[3])
local said = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], gone + max_age)
local was_gone = not said or now - said > gone
-- Redis' clock has been set back, or another Redis has taken over.
for _, early in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
    redis.call('ZADD', KEYS[1], now, early)
end
local silent = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - gone - 1)
return {silent, redis.call('ZRANGEBYSCORE', KEYS[1], now - gone, '+inf'), was_gone and 1 or 0}
";

/// Claims a connection of a server that is gone: its end is told by the one who claims it, and nobody else has
/// the connection until its client is back.
const CLAIM: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone, own, visit, after, max_age = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local said = redis.call('ZSCORE', KEYS[1], gone)
if said and now - said <= after then return nil end
if redis.call('HDEL', KEYS[2], visit) == 0 then return nil end
local session = redis.pcall('GET', KEYS[4])
if type(session) ~= 'string' then return nil end
redis.call('HSET', KEYS[3], visit, 0)
redis.call('PEXPIRE', KEYS[3], max_age)
if redis.call('GET', KEYS[5]) == gone then redis.call('SET', KEYS[5], own, 'PX', max_age) end
return session
";

/// Whether a server tells of the end of a connection: no other one has had it since.
const TELL: &str = r"
local server = redis.call('GET', KEYS[1])
if server and server ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], 0)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
";

/// Forgets a server that has nothing to tell any more.
const FORGET: &str = r"
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
";

/// What is known of servers that are gone.
pub(super) struct Ends {
    /// The names of those that are, as far as this server knows.
    gone: Mutex<Vec<String>>,
    more: Notify,
    /// Who is there.
    heard_of: watch::Sender<Vec<String>>,
    /// Who is there, when all others are gone.
    there: watch::Sender<Vec<String>>,
    /// Others have taken this one for gone.
    was_gone: Notify,
    say: Script,
    claim: Script,
    tell: Script,
    forget: Script,
}

impl Ends {
    /// Nobody is gone yet.
    pub(super) fn new() -> Self {
        Self {
            gone: Mutex::default(),
            more: Notify::new(),
            heard_of: watch::Sender::default(),
            there: watch::Sender::default(),
            was_gone: Notify::new(),
            say: Script::new(SAY),
            claim: Script::new(CLAIM),
            tell: Script::new(TELL),
            forget: Script::new(FORGET),
        }
    }
}

/// A visit whose end this server tells, and what is kept of the connection, if that can be read.
struct Claimed {
    visit: String,
    carried: Option<Carried>,
}

/// The key of what a server is to tell: visits, and whether it has begun to (0) or not (1).
pub(super) fn key(link: &Link, server: &str) -> String {
    link.key(&format!("ends:{server}"))
}

/// What a visit is called in it.
pub(super) fn field(pid: &str, visit: Visit) -> String {
    format!("{pid}.{visit}")
}

impl Cluster {
    /// Whether it is for this server to tell plugins of the end of a visit. While Redis is away it is.
    pub(crate) async fn may_tell_end(&self, pid: &str, visit: Visit) -> bool {
        let [_, _, whose] = sessions::keys(&self.link, pid);
        let mut asked = self.ends.tell.key(whose);
        asked.key(key(&self.link, self.name()));
        asked.arg(self.name()).arg(field(pid, visit));
        asked.arg(self.sessions.max_age().as_millis() as u64);
        // A connection to Redis that was there before this server was held up may be gone.
        for _ in 0..2 {
            let answer = async {
                let mut redis = self.link.shared().await?;
                asked.invoke_async(&mut redis).await
            };
            match within(answer).await {
                Ok(may) => return may,
                Err(error) => {
                    tracing::debug!(%error, "it is not known whether an end was told elsewhere");
                    self.link.forget_shared().await;
                }
            }
        }
        true
    }

    /// Says that this server is there, and hears who is not, until it has left.
    pub(crate) async fn say_here(&self) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Since when it has been there without a pause; who was silent meanwhile is gone.
        let mut since = Instant::now();
        let mut last = since;
        loop {
            beat.tick().await;
            let said = within(self.say_it_is_here()).await;
            let is_late = last.elapsed() > LATE;
            if said.is_err() || is_late {
                since = Instant::now();
            }
            if said.is_ok() {
                last = Instant::now();
            }
            match said {
                Err(error) => {
                    tracing::debug!(%error, "it is not said that this server is there");
                    self.link.forget_shared().await;
                }
                Ok((gone, names, was_gone)) => {
                    if was_gone {
                        // Redis' clock may have been set ahead: then so were all others, until they say otherwise.
                        since = Instant::now();
                    }
                    let is_sure = !was_gone && since.elapsed() > GONE;
                    self.ends.heard_of.send_replace(names.clone());
                    if was_gone {
                        self.ends.was_gone.notify_one();
                    }
                    if is_sure {
                        self.ends.there.send_replace(names);
                        *self.ends.gone.lock() = gone;
                        self.ends.more.notify_one();
                    }
                }
            }
        }
    }

    async fn say_it_is_here(&self) -> RedisResult<(Vec<String>, Vec<String>, bool)> {
        let mut said = self.ends.say.key(self.beats_key());
        said.arg(self.name()).arg(GONE.as_millis() as u64);
        said.arg(self.sessions.max_age().as_millis() as u64);
        let mut redis = self.link.shared().await?;
        said.invoke_async(&mut redis).await
    }

    /// The servers that are there, this one, too: each time that it is known anew.
    pub(crate) fn heard_of(&self) -> watch::Receiver<Vec<String>> {
        self.ends.heard_of.subscribe()
    }

    /// The same each time that all others are gone.
    pub(crate) fn there(&self) -> watch::Receiver<Vec<String>> {
        self.ends.there.subscribe()
    }

    /// Waits until others have taken this server for gone.
    pub(crate) async fn was_gone(&self) {
        self.ends.was_gone.notified().await;
    }

    /// Has `tell` tell plugins of the ends of connections whose servers are gone, and returns what is kept of
    /// them since.
    pub(crate) async fn tell_for_others<T: Future<Output = Carried>>(
        &self,
        tell: impl Fn(Carried) -> T,
    ) {
        loop {
            self.ends.more.notified().await;
            let gone = std::mem::take(&mut *self.ends.gone.lock());
            for server in gone {
                if let Err(error) = self.tell_for(&server, &tell).await {
                    tracing::debug!(%error, server, "ends are not told yet");
                    self.link.forget_shared().await;
                }
            }
        }
    }

    async fn tell_for<T: Future<Output = Carried>>(
        &self,
        gone: &str,
        tell: &impl Fn(Carried) -> T,
    ) -> RedisResult<()> {
        let mut redis = self.link.shared().await?;
        self.ends.claim.load_async(&mut redis).await?;
        let mut told = 0;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(key(&self.link, gone)).arg(cursor);
            scan.arg("COUNT").arg(BATCH);
            let (next, visits): (u64, Vec<(Vec<u8>, Value)>) = scan.query_async(&mut redis).await?;
            for batch in visits.chunks(BATCH) {
                let visits = batch
                    .iter()
                    .filter_map(|(visit, _)| str::from_utf8(visit).ok());
                let claimed = self.claim(&mut redis, gone, visits).await?;
                told += claimed.len();
                let ends = claimed.into_iter().map(|claimed| self.tell(claimed, tell));
                join_all(ends).await;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let mut forget = self.ends.forget.key(self.beats_key());
        forget.key(key(&self.link, gone)).arg(gone);
        forget.invoke_async::<()>(&mut redis).await?;
        if told > 0 {
            tracing::warn!(
                server = gone,
                connections = told,
                "a server of the cluster is gone: plugins were told of the ends of connections that it had"
            );
        }
        Ok(())
    }

    /// Claims these visits of a server that is gone; what is kept of those that nobody else has claimed.
    async fn claim<'a>(
        &self,
        redis: &mut MultiplexedConnection,
        gone: &str,
        visits: impl Iterator<Item = &'a str>,
    ) -> RedisResult<Vec<Claimed>> {
        let mut pipeline = Pipeline::new();
        // One that cannot be claimed is no reason not to tell of those that were.
        pipeline.ignore_errors();
        let mut asked = Vec::new();
        for visit in visits {
            let Some((pid, _)) = visit.rsplit_once('.') else {
                continue;
            };
            let [session, _, whose] = sessions::keys(&self.link, pid);
            let command = pipeline.cmd("EVALSHA");
            command.arg(self.ends.claim.get_hash()).arg(5);
            command.arg(self.beats_key());
            command.arg(key(&self.link, gone));
            command.arg(key(&self.link, self.name()));
            command.arg(session).arg(whose);
            command.arg(gone).arg(self.name()).arg(visit);
            command.arg(GONE.as_millis() as u64);
            command.arg(self.sessions.max_age().as_millis() as u64);
            asked.push(visit);
        }
        let answered: Vec<RedisResult<Option<Vec<u8>>>> = pipeline.query_async(redis).await?;
        let claimed = asked.into_iter().zip(answered);
        let claimed = claimed.filter_map(|(visit, answer)| {
            let session = answer.ok()??;
            Some(Claimed {
                visit: visit.to_owned(),
                carried: str::from_utf8(&session)
                    .ok()
                    .and_then(|session| self.sessions.read(session)),
            })
        });
        Ok(claimed.collect())
    }

    async fn tell<T: Future<Output = Carried>>(
        &self,
        claimed: Claimed,
        tell: &impl Fn(Carried) -> T,
    ) {
        let Claimed { visit, carried } = claimed;
        if let Some(carried) = carried {
            let carried = tell(carried).await;
            self.sessions.has_ended(Written {
                carried,
                events: Vec::new(),
            });
        }
        self.sessions.visit_is_told(visit);
    }

    /// This server is not there any more. What it has not told, others do.
    pub(crate) async fn leave_ends(&self) {
        let mut forget = self.ends.forget.key(self.beats_key());
        forget.key(key(&self.link, self.name())).arg(self.name());
        let left = async {
            let mut redis = self.link.shared().await?;
            forget.invoke_async::<()>(&mut redis).await
        };
        // Otherwise it is gone a moment later.
        let _ = within(left).await;
    }

    fn beats_key(&self) -> String {
        self.link.key("beats")
    }
}
