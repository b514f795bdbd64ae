//! What is kept in Redis of connections, so that their clients can come back on any server: in the form of
//! Node's adapter, with what only MixLab knows beside it.
//!
//! It is written while a connection lives, some at once and soon after each change: a server that is killed
//! says no goodbye.

use std::{borrow::Cow, collections::hash_map::Entry, sync::Arc, time::Duration};

use ahash::{HashMap, HashSet};
use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use redis::{Pipeline, RedisResult, Script, aio::MultiplexedConnection, streams::StreamRangeReply};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{EntryId, ends, link::Link, trust::signing::Signing};
use crate::{
    msgpack,
    recovery::{Carried, Own, OwnEvent, Visit},
    transport::SessionKey,
};

/// What sessions are signed for.
const SESSION: &str = "session";

/// How long events to single connections are collected, which nearly always have reached their clients. What
/// else changes is written at once, with all that changes while something is being written.
const COLLECT: Duration = Duration::from_millis(20);

/// So many connections are written in one go.
const BATCH: usize = 500;

/// So many events to one connection alone are kept. Who misses more starts afresh.
const MAX_EVENTS: usize = 1_000;

/// So many connections that have ended may wait to be written while Redis is away.
const MAX_ENDED: usize = 100_000;

/// Pause before Redis is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What is to be written.
pub(crate) struct Sessions {
    /// How long a client may be away.
    max_age: Duration,
    signing: Arc<Signing>,
    /// The cluster's prefix: others in this Redis have their sessions under the same keys.
    prefix: Arc<str>,
    waiting: Mutex<Waiting>,
    more: Notify,
    /// More than events is to be written.
    urgent: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Connections that are here, and whether more than their events has changed.
    changed: HashMap<(SessionKey, Box<str>), bool>,
    /// Connections that are not here any more, by their private ids; none of those that nobody has back.
    ended: HashMap<Box<str>, Option<Written>>,
    /// Those of them that are being written.
    writing: HashSet<Box<str>>,
    /// The ends of these visits are told.
    told: Vec<String>,
}

/// Something to be written.
enum Change {
    /// A connection; all of it, or its new events only. Whose client has it here, if one has.
    Keep(Box<Written>, bool, Option<(SessionKey, Box<str>)>),
    /// Nobody has it back.
    Forget(Box<str>),
    /// The end of this visit is told.
    Told(String),
}

/// What is written of a connection.
pub(crate) struct Written {
    /// The connection.
    pub carried: Carried,
    /// The events that were not written before.
    pub events: Vec<OwnEvent>,
}

/// A connection whose client may have it here.
pub(crate) struct Kept {
    /// The connection.
    pub carried: Carried,
    /// What it alone was sent.
    pub events: Vec<OwnEvent>,
    /// The last entry of the stream by then.
    pub newest: EntryId,
    /// Its server has not ended it, and will not: who has it now tells plugins of its end there.
    pub is_lost: bool,
}

/// As it is in Redis: what Node's servers know, and what they do not.
#[derive(Serialize, Deserialize)]
struct Session<'a> {
    sid: String,
    pid: String,
    rooms: Vec<String>,
    #[serde(borrow, default)]
    data: Option<HashMap<String, &'a RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mixlab: Option<Own>,
    /// The cluster that it was in, if that is known.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    cluster: Option<Cow<'a, str>>,
}

/// The connections that are here.
pub(crate) trait Here {
    /// What is to be written of a client's connection, if it is here still.
    fn look(&self, client: SessionKey, namespace: &str) -> Option<Written>;

    /// All of them are to be written.
    fn touch(&self);

    /// Another server has this one.
    fn let_go(&self, client: SessionKey, namespace: &str);
}

impl Sessions {
    /// Nothing yet; clients may be away for so long.
    pub(super) fn new(max_age: Duration, signing: Arc<Signing>, prefix: Arc<str>) -> Self {
        Self {
            max_age,
            signing,
            prefix,
            waiting: Mutex::default(),
            more: Notify::new(),
            urgent: Notify::new(),
        }
    }

    /// How long a client may be away.
    pub(super) fn max_age(&self) -> Duration {
        self.max_age
    }

    /// A connection that is here has been sent an event, or `more` about it has changed.
    pub(crate) fn has_changed(&self, client: SessionKey, namespace: &str, more: bool) {
        let mut waiting = self.waiting.lock();
        let entry = waiting.changed.entry((client, namespace.into()));
        *entry.or_default() |= more;
        drop(waiting);
        match more {
            true => self.urgent.notify_one(),
            false => self.more.notify_one(),
        }
    }

    /// A connection has ended whose client may come back, or was sent something since.
    pub(crate) fn has_ended(&self, last: Written) {
        let pid = last.carried.pid.as_str().into();
        self.end(pid, Some(last));
    }

    /// Nobody has this connection back.
    pub(crate) fn forget(&self, pid: &str) {
        self.end(pid.into(), None);
    }

    /// Plugins have been told of the end of a visit.
    pub(crate) fn end_is_told(&self, pid: &str, visit: Visit) {
        self.visit_is_told(ends::field(pid, visit));
    }

    /// The same, by what the visit is called in Redis.
    pub(super) fn visit_is_told(&self, visit: String) {
        self.waiting.lock().told.push(visit);
        self.more.notify_one();
    }

    fn end(&self, pid: Box<str>, last: Option<Written>) {
        let mut waiting = self.waiting.lock();
        if waiting.ended.len() >= MAX_ENDED {
            return;
        }
        match (waiting.ended.entry(pid), last) {
            (Entry::Occupied(mut former), Some(mut last)) => {
                // Events that are not written yet come first.
                if let Some(former) = former.get_mut().take() {
                    last.events.splice(0..0, former.events);
                }
                former.insert(Some(last));
            }
            (entry, last) => {
                entry.insert_entry(last);
            }
        }
        drop(waiting);
        self.urgent.notify_one();
    }

    /// Whether the end of this connection is still to be written: no other server knows of it.
    pub(super) fn is_waiting(&self, pid: &str) -> bool {
        let waiting = self.waiting.lock();
        waiting.ended.contains_key(pid) || waiting.writing.contains(pid)
    }

    /// Whether all that is known is written.
    pub(super) fn is_written(&self) -> bool {
        let waiting = self.waiting.lock();
        let is_empty = waiting.changed.is_empty() && waiting.ended.is_empty();
        is_empty && waiting.writing.is_empty() && waiting.told.is_empty()
    }

    /// Writes what changes, over lost connections.
    pub(super) async fn run(&self, server: &str, link: &Link, here: &impl Here) {
        let mut unwritten = Vec::new();
        loop {
            if let Err(error) = self.write(server, link, here, &mut unwritten).await {
                tracing::debug!(%error, "sessions are not written");
            }
            sleep(PAUSE).await;
        }
    }

    async fn write(
        &self,
        server: &str,
        link: &Link,
        here: &impl Here,
        unwritten: &mut Vec<Change>,
    ) -> RedisResult<()> {
        let mut redis = link.connect().await?;
        let keep = Script::new(KEEP);
        keep.load_async(&mut redis).await?;
        // Redis may have lost what it had, and others may have taken this server for gone.
        here.touch();
        let mut touched = Instant::now();
        loop {
            while !unwritten.is_empty() {
                let batch = unwritten.len().min(BATCH);
                let taken = self
                    .send(server, link, &mut redis, &keep, &unwritten[..batch])
                    .await?;
                for change in unwritten.drain(..batch) {
                    if let Change::Keep(written, _, Some((client, namespace))) = change
                        && taken.contains(&written.carried.pid)
                    {
                        here.let_go(client, &namespace);
                    }
                }
            }
            self.waiting.lock().writing.clear();
            // Keys that nobody writes are gone after `max_age`.
            let wait = (self.max_age / 3).saturating_sub(touched.elapsed());
            tokio::select! {
                () = self.urgent.notified() => {}
                () = async { self.more.notified().await; sleep(COLLECT).await } => {}
                () = sleep(wait) => {
                    here.touch();
                    touched = Instant::now();
                }
            }
            let Waiting {
                changed,
                ended,
                told,
                ..
            } = self.take();
            // Whose client is back already is written as it is now, after that.
            let gone = ended.into_iter().map(|(pid, last)| match last {
                Some(last) => Change::Keep(Box::new(last), true, None),
                None => Change::Forget(pid),
            });
            unwritten.extend(gone);
            let here = changed.into_iter().filter_map(|(whose, more)| {
                let written = Box::new(here.look(whose.0, &whose.1)?);
                Some(Change::Keep(written, more, Some(whose)))
            });
            unwritten.extend(here);
            unwritten.extend(told.into_iter().map(Change::Told));
        }
    }

    /// What waits, but for what is said of it while it is written.
    fn take(&self) -> Waiting {
        let mut waiting = self.waiting.lock();
        let writing = waiting.ended.keys().cloned().collect();
        let new = Waiting {
            writing,
            ..Waiting::default()
        };
        std::mem::replace(&mut waiting, new)
    }

    /// Returns the private ids of those of them that another server has.
    async fn send(
        &self,
        server: &str,
        link: &Link,
        redis: &mut MultiplexedConnection,
        keep: &Script,
        batch: &[Change],
    ) -> RedisResult<HashSet<String>> {
        let max_age = self.max_age.as_millis() as u64;
        let owed = ends::key(link, server);
        let mut pipeline = Pipeline::with_capacity(batch.len());
        let mut kept = Vec::new();
        for change in batch {
            match change {
                Change::Forget(pid) => {
                    // Whose it was is known on: a server that was held up has it still.
                    let [session, events, _] = keys(link, pid);
                    pipeline.cmd("DEL").arg(session).arg(events).ignore();
                }
                Change::Told(visit) => {
                    pipeline.cmd("HDEL").arg(&owed).arg(visit).ignore();
                }
                Change::Keep(written, more, _) => {
                    let Written { carried, events } = &**written;
                    let [session, its_events, whose] = keys(link, &carried.pid);
                    let command = pipeline.cmd("EVALSHA");
                    command.arg(keep.get_hash()).arg(4);
                    command.arg(session).arg(its_events).arg(whose).arg(&owed);
                    command.arg(server).arg(max_age).arg(MAX_EVENTS);
                    command.arg(more.then(|| self.to_text(carried)).unwrap_or_default());
                    let here = carried.own.as_ref().filter(|own| *more && own.is_here);
                    let visit = here.map(|own| ends::field(&carried.pid, own.visit));
                    command.arg(visit.unwrap_or_default());
                    for event in events {
                        command.arg(self.signing.sign_event(&carried.pid, event.write()));
                    }
                    kept.push(&carried.pid);
                }
            }
        }
        let is_kept: Vec<bool> = pipeline.query_async(redis).await?;
        let taken = kept
            .into_iter()
            .zip(is_kept)
            .filter(|(_, is_kept)| !is_kept);
        Ok(taken.map(|(pid, _)| pid.clone()).collect())
    }

    /// What is kept of a connection, and stays there.
    pub(super) async fn look(
        &self,
        link: &Link,
        redis: &mut MultiplexedConnection,
        pid: &str,
    ) -> RedisResult<Option<Carried>> {
        let mut get = redis::cmd("GET");
        get.arg(key(link, pid));
        let text: Option<String> = get.query_async(redis).await?;
        Ok(text.and_then(|text| self.read(&text)))
    }

    /// A connection as it is kept.
    fn to_text(&self, carried: &Carried) -> String {
        let json = |(plugin, json): &'_ (Arc<str>, Arc<str>)| {
            let json = serde_json::from_str::<&RawValue>(json)
                .ok()
                .map(ToOwned::to_owned);
            json.map(|json| (plugin.to_string(), json))
        };
        let data: HashMap<String, Box<RawValue>> = carried.data.iter().filter_map(json).collect();
        let session = Session {
            sid: carried.id.clone(),
            pid: carried.pid.clone(),
            rooms: carried.rooms.clone(),
            data: Some(
                data.iter()
                    .map(|(plugin, json)| (plugin.clone(), &**json))
                    .collect(),
            ),
            mixlab: carried.own.clone(),
            cluster: Some(Cow::Borrowed(&self.prefix)),
        };
        let json = serde_json::to_string(&session).expect("texts and JSON always serialise");
        STANDARD.encode(self.signing.sign(SESSION, msgpack::pack(&json, &[])))
    }

    /// Reads what is kept of a connection. What cannot be read, or is another cluster's, is nothing that a client could
    /// have back.
    pub(super) fn read(&self, text: &str) -> Option<Carried> {
        let packed = STANDARD.decode(text).ok()?;
        let packed = self.signing.open(SESSION, &packed)?;
        let json = msgpack::unpack(&packed, usize::MAX).ok()?.json;
        let Session {
            sid,
            pid,
            rooms,
            data,
            mixlab,
            cluster,
        } = serde_json::from_str(&json).ok()?;
        if mixlab.is_some() && cluster.as_deref() != Some(&*self.prefix) {
            return None;
        }
        let data = data.unwrap_or_default().into_iter();
        let data = data.map(|(plugin, json)| (plugin.into(), json.get().into()));
        Some(Carried {
            pid,
            id: sid,
            rooms,
            data: data.collect(),
            own: mixlab,
        })
    }

    /// Takes a connection as it was `found`: nobody else has it any more.
    pub(super) async fn take_kept(
        &self,
        server: &str,
        link: &Link,
        redis: &mut MultiplexedConnection,
        found: &Carried,
    ) -> RedisResult<Option<Kept>> {
        let pid = &*found.pid;
        let own = found.own.as_ref();
        let owed = ends::key(link, own.map_or(server, |own| &own.server));
        let visit = own.map(|own| ends::field(pid, own.visit));
        let take = Script::new(TAKE);
        let mut invocation = take.prepare_invoke();
        keys(link, pid).iter().for_each(|key| {
            invocation.key(key);
        });
        invocation
            .key(&*link.prefix)
            .key(owed)
            .arg(server)
            .arg(self.max_age.as_millis() as u64)
            .arg(visit.unwrap_or_default());
        type Taken = Option<(String, Vec<Vec<u8>>, StreamRangeReply, bool)>;
        let taken: Taken = invocation.invoke_async(redis).await?;
        let Some((session, events, newest, is_lost)) = taken else {
            return Ok(None);
        };
        let newest = newest
            .ids
            .first()
            .and_then(|entry| EntryId::parse(&entry.id));
        let events: Option<Vec<_>> = events
            .iter()
            .map(|bytes| OwnEvent::read(self.signing.open_event(pid, bytes)?))
            .collect();
        Ok(self
            .read(&session)
            .zip(events)
            .map(|(carried, events)| Kept {
                carried,
                events,
                newest: newest.unwrap_or_default(),
                is_lost,
            }))
    }
}

/// The keys of a connection: its session, the events that it alone was sent, and whose it is.
pub(super) fn keys(link: &Link, pid: &str) -> [String; 3] {
    let own = |what: &str| link.key(&format!("{what}:{pid}"));
    [key(link, pid), own("events"), own("server")]
}

/// Keeps a connection, unless another server has it: one that was held up does not write over what is newer.
/// Plugins are to hear of the end of one that is here. What is under a key and is nothing of a server's goes: it would
/// hold up what is written of all other connections.
const KEEP: &str = r"
local function put(command, key, ...)
    local done = redis.pcall(command, key, ...)
    if type(done) ~= 'table' or not done.err then return done end
    if string.find(done.err, 'WRONGTYPE', 1, true) then redis.call('DEL', key) end
    return redis.call(command, key, ...)
end
local server = put('GET', KEYS[3])
if server and server ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
if ARGV[4] ~= '' then redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[2]) end
if ARGV[5] ~= '' then
    put('HSETNX', KEYS[4], ARGV[5], 1)
    redis.call('PEXPIRE', KEYS[4], ARGV[2])
end
for index = 6, #ARGV do put('RPUSH', KEYS[2], ARGV[index]) end
put('LTRIM', KEYS[2], -tonumber(ARGV[3]), -1)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1";

/// Takes a connection, with the newest entry of the stream. Its server has not ended it if it is still to tell
/// of that, and does not any more.
const TAKE: &str = r"
local session = redis.call('GET', KEYS[1])
if not session then return nil end
local lost = 0
if redis.call('HGET', KEYS[5], ARGV[3]) == '1' then lost = redis.call('HDEL', KEYS[5], ARGV[3]) end
local events = redis.call('LRANGE', KEYS[2], 0, -1)
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return {session, events, redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1), lost}";

fn key(link: &Link, pid: &str) -> String {
    format!("{}{pid}", link.session_prefix)
}
