//! Requests of backends that may come again, to any server: what came of each is kept for all.

use std::time::Duration;

use redis::Script;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use crate::{cluster::Cluster, id};

/// How long a request may be under way. Of a server that has not said by then what came of it, nobody waits for that.
const LEASE: Duration = Duration::from_secs(30);

/// An answer of Redis that comes so late was held up, with this server: others may have begun the request meanwhile.
const HELD_UP: Duration = Duration::from_secs(5);

/// What is kept of the requests of one backend, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How many requests. The oldest goes first.
    pub requests: usize,
    /// How many bytes their answers may have, with their keys.
    pub bytes: usize,
    /// For how long.
    pub time: Duration,
}

/// A request with a key of its backend's.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    backend: String,
    key: Box<str>,
    /// Tells bodies apart.
    body: String,
    /// Tells it from others with its key.
    id: String,
}

/// What is known of a request that comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is under way from now on.
    First,
    /// It is under way.
    Before,
    /// It has been answered.
    Answered(String),
    /// There was another one with its key.
    Reused,
}

impl Request {
    /// Of the backend with this name, which others could not have.
    pub(crate) fn new(backend: String, key: &str, body: &str) -> Self {
        Self {
            backend,
            key: key.into(),
            body: format!("{:x}", Sha256::digest(body)),
            id: id::random(),
        }
    }
}

/// What both scripts need. KEYS: a hash of requests by their keys, each `way ID UNTIL BODY` or `done SINCE BODY ANSWER`; a
/// sorted set of the keys by when they came; how many bytes keys and answers have. ARGV: the key, the body, the id, how
/// many requests are kept, how many bytes, for how many milliseconds.
const COMMON: &str = r"
local requests, came, bytes = KEYS[1], KEYS[2], KEYS[3]
local key, body, id = ARGV[1], ARGV[2], ARGV[3]
local most, room, kept = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function count(more)
    local sum = redis.pcall('INCRBY', bytes, more)
    if type(sum) == 'number' then return sum end
    -- There is something else.
    redis.call('SET', bytes, math.max(more, 0))
    return math.max(more, 0)
end
local function forget(key)
    local request = redis.call('HGET', requests, key)
    local answer = request and string.match(request, '^done %d+ %x+ (.*)$')
    if answer then count(-(#key + #answer)) end
    redis.call('HDEL', requests, key)
    redis.call('ZREM', came, key)
end
local function note(request)
    redis.call('HSET', requests, key, request)
    for _, all in ipairs(KEYS) do redis.call('PEXPIRE', all, kept) end
end
local known = redis.call('HGET', requests, key)
";

/// Begins a request, or says what is known of it: nothing of one that cannot be read. ARGV, beside those: for how long it
/// may be under way.
const BEGIN: &str = r"
local lease = tonumber(ARGV[7])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', came, '-inf', now - kept, 'LIMIT', 0, 100)) do
    if old == key then known = false end
    forget(old)
end
if known then
    local its, until_when, its_body = string.match(known, '^way (%S+) (%d+) (%x+)$')
    if its then
        if its_body ~= body then return {'reused'} end
        -- One that ends later was begun before Redis' clock was set back.
        local is_under_way = tonumber(until_when) > now and tonumber(until_when) <= now + lease
        if its ~= id and is_under_way then return {'before'} end
    else
        local its_body, answer = string.match(known, '^done %d+ (%x+) (.*)$')
        if its_body and its_body ~= body then return {'reused'} end
        if its_body then return {'answered', answer} end
    end
end
redis.call('ZADD', came, now, key)
note(table.concat({'way', id, string.format('%.0f', now + lease), body}, ' '))
return {'first'}";

/// Says what came of a request. If another one has begun since, only that it was done counts. ARGV, beside those: the
/// answer, if there is one.
const END: &str = r"
local answer = ARGV[7]
if known and string.match(known, '^done %d+ %x+ ') then return end
if not answer then
    if known and string.match(known, '^way (%S+) ') == id then forget(key) end
    return
end
if not known then redis.call('ZADD', came, now, key) end
local sum = count(#key + #answer)
note(table.concat({'done', string.format('%.0f', now), body, answer}, ' '))
while redis.call('ZCARD', came) > most or sum > room do
    local oldest = redis.call('ZRANGEBYSCORE', came, '-inf', '+inf', 'LIMIT', 0, 1)[1]
    if not oldest then
        redis.call('DEL', bytes)
        break
    end
    forget(oldest)
    sum = count(0)
end";

impl Cluster {
    /// What is known of a request of a backend; none if Redis does not say. One that is the first is to be ended.
    pub(crate) async fn begin_request(&self, request: &Request, bounds: Bounds) -> Option<Begun> {
        let asked = Instant::now();
        let begun = self.try_to_begin(request, bounds).await;
        let is_to_be_done = matches!(begun, Some(Begun::First) | None);
        if !is_to_be_done || asked.elapsed() < HELD_UP {
            return begun;
        }
        // Another server may have it by now, and only Redis knows: without its word it is not done.
        let begun = timeout(HELD_UP, self.begin_behind_others(request, bounds)).await;
        Some(begun.unwrap_or(Begun::Before))
    }

    /// What Redis says, when it does.
    async fn begin_behind_others(&self, request: &Request, bounds: Bounds) -> Begun {
        loop {
            self.redis_is_back().await;
            let asked = Instant::now();
            match self.try_to_begin(request, bounds).await {
                Some(begun) if begun != Begun::First || asked.elapsed() < HELD_UP => return begun,
                _ => {}
            }
        }
    }

    async fn try_to_begin(&self, request: &Request, bounds: Bounds) -> Option<Begun> {
        let begin = Script::new(&[COMMON, BEGIN].concat());
        let mut invocation = self.invoke(&begin, request, bounds);
        invocation.arg(LEASE.as_millis() as u64);
        let ask = async |mut redis| invocation.invoke_async(&mut redis).await;
        let said: Vec<String> = self.ask_redis(ask).await?;
        let mut said = said.into_iter();
        Some(match (said.next()?.as_str(), said.next()) {
            ("first", _) => Begun::First,
            ("before", _) => Begun::Before,
            ("answered", Some(answer)) => Begun::Answered(answer),
            _ => Begun::Reused,
        })
    }

    /// Has all servers know the answer to a request, or that it came to none. Whether Redis has taken that.
    pub(crate) async fn end_request(
        &self,
        request: &Request,
        answer: Option<&str>,
        bounds: Bounds,
    ) -> bool {
        let end = Script::new(&[COMMON, END].concat());
        let mut invocation = self.invoke(&end, request, bounds);
        if let Some(answer) = answer {
            invocation.arg(answer);
        }
        let ask = async |mut redis| invocation.invoke_async::<()>(&mut redis).await;
        self.ask_redis(ask).await.is_some()
    }

    /// The keys and the arguments that both scripts have.
    fn invoke<'a>(
        &self,
        script: &'a Script,
        request: &Request,
        bounds: Bounds,
    ) -> redis::ScriptInvocation<'a> {
        let Request {
            backend,
            key,
            body,
            id,
        } = request;
        let mut invocation = script.prepare_invoke();
        for what in ["requests", "came", "bytes"] {
            // One script takes only keys of one slot.
            invocation.key(self.link.key(&format!("{{once:{backend}}}:{what}")));
        }
        invocation.arg(&**key).arg(body).arg(id);
        invocation.arg(bounds.requests).arg(bounds.bytes);
        invocation.arg(bounds.time.as_millis() as u64);
        invocation
    }
}
