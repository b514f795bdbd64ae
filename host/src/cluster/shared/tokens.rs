//! Buckets of tokens that servers have in common.

use std::time::Duration;

use redis::Script;

use crate::cluster::Cluster;

/// Takes a token from each of some buckets, up to the first that is empty. KEYS: the buckets, each of which holds when it
/// is full again, in microseconds of Redis' clock. ARGV: of each how many tokens come in how many microseconds, and how
/// many it has when it is full. Answers which one is empty, and for how many microseconds; nothing if none is.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for index, bucket in ipairs(KEYS) do
    local count, interval, burst = unpack(ARGV, 3 * index - 2, 3 * index)
    local token = interval / count
    local full = redis.pcall('GET', bucket)
    -- What is no number is no bucket.
    full = type(full) == 'string' and tonumber(full) or 0
    if full ~= full then full = 0 end
    -- Redis' clock may have been set back, or another Redis has taken over.
    full = math.min(math.max(full, now), now + burst * token)
    local wait = full - now - (burst - 1) * token
    -- Such large numbers of microseconds have no exact fractions.
    if wait > 0.5 then return {index, math.ceil(wait)} end
    full = full + token
    redis.call('SET', bucket, string.format('%.3f', full), 'PX', math.ceil((full - now) / 1000))
end
return nil";

/// A bucket that all servers take from.
pub(crate) struct Bucket<'a> {
    /// Tells it from others.
    pub name: &'a str,
    /// So many tokens come in the interval.
    pub count: u32,
    pub interval: Duration,
    /// So many it has when it is full.
    pub burst: u32,
}

/// A bucket is empty.
pub(crate) struct Spent {
    /// Which one it is of those that were asked for.
    pub index: usize,
    /// How long it stays so.
    pub wait: Duration,
}

impl Cluster {
    /// Takes a token from each of these buckets of a `family`, whose tokens are taken together, up to the first that
    /// is empty. None if Redis does not say.
    pub(crate) async fn take_tokens(
        &self,
        family: &str,
        buckets: &[Bucket<'_>],
    ) -> Option<Result<(), Spent>> {
        let take = Script::new(TAKE);
        let mut invocation = take.prepare_invoke();
        for bucket in buckets {
            // One script takes only keys of one slot.
            let name = bucket.name;
            invocation.key(self.link.key(&format!("{{limit:{family}}}:{name}")));
            invocation
                .arg(bucket.count)
                .arg(bucket.interval.as_secs_f64() * 1e6)
                .arg(bucket.burst);
        }
        let ask = async |mut redis| invocation.invoke_async(&mut redis).await;
        let spent: Option<(usize, u64)> = self.ask_redis(ask).await?;
        Some(spent.map_or(Ok(()), |(index, wait)| {
            Err(Spent {
                index: index.saturating_sub(1),
                wait: Duration::from_micros(wait),
            })
        }))
    }
}
