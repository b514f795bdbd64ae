//! How many clients the other servers have. Each says once a second how many it has itself and hears how many
//! the others have; who says nothing for a while is gone.
//!
//! Node's servers say nothing. While there are any, one of MixLab's asks them for their sockets now and then and
//! says how many they are, for all.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use redis::{RedisResult, Script, aio::MultiplexedConnection};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::talk::Said;
use crate::cluster::{Cluster, link::ANSWER};
use crate::{namespace::MAIN_NAMESPACE, transport::Selection};

/// How often a server says how many clients it has.
const BEAT: Duration = Duration::from_secs(1);

/// A server that has said nothing for so long is gone.
const GONE: Duration = Duration::from_secs(3);

/// How often Node's servers are asked: they answer with all that they know of their sockets.
const NODE_BEAT: Duration = Duration::from_secs(5);

/// What they have answered counts for so long.
const NODE_GONE: Duration = Duration::from_secs(15);

/// The name under which their clients are counted.
const NODE: &str = "node";

/// Says how many clients a server has, and whether it listens to the main namespace's channel. Answers how many
/// clients the other servers have, how many servers listen, how many clients Node's servers have, and whether
/// it is this server's turn to ask these.
const SAY: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name, count, listens, gone, node_beat, node_gone =
    ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call('HSET', KEYS[1], name, count .. ' ' .. listens .. ' ' .. now)
redis.call('PEXPIRE', KEYS[1], node_gone)
local others, listeners, node, asked = 0, 0, 0, 0
local said = redis.call('HGETALL', KEYS[1])
for i = 1, #said, 2 do
    local count, listens, at = string.match(said[i + 1], '^(%d+) (%d) (%d+)$')
    local limit = said[i] == 'node' and node_gone or gone
    if not count or now - at > limit then
        redis.call('HDEL', KEYS[1], said[i])
    elseif said[i] == 'node' then
        node, asked = tonumber(count), tonumber(at)
    else
        listeners = listeners + listens
        if said[i] ~= name then others = others + count end
    end
end
local turn = 0
if now - asked > node_beat and redis.call('SET', KEYS[2], name, 'NX', 'PX', node_beat) then turn = 1 end
return { others, listeners, node, turn }
";

/// Says how many clients Node's servers have.
const SAY_NODE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'node', ARGV[1] .. ' 0 ' .. now)
";

/// How many clients the others have, as far as they have said.
#[derive(Debug, Default)]
pub(crate) struct Census(AtomicUsize);

impl Census {
    /// How many.
    pub(crate) fn elsewhere(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Cluster {
    /// Says once a second how many clients are `here`, and hears how many the others have.
    pub(crate) async fn count_clients(&self, here: impl Fn() -> usize) {
        let (say, say_node) = (Script::new(SAY), Script::new(SAY_NODE));
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            // While Redis is away, others have as many as they had.
            if let Some(mut speaks) = self.channels.speaks()
                && self
                    .say_count(&mut speaks, &say, &say_node, here())
                    .await
                    .is_err()
            {
                self.channels.is_lost();
            }
        }
    }

    async fn say_count(
        &self,
        speaks: &mut MultiplexedConnection,
        say: &Script,
        say_node: &Script,
        here: usize,
    ) -> RedisResult<()> {
        let listens = self.channels.listens(MAIN_NAMESPACE);
        let mut said = say.key(self.census_key());
        said.key(self.link.key(&format!("asks-{NODE}")));
        said.arg(&*self.queue.name).arg(here).arg(u8::from(listens));
        for time in [GONE, NODE_BEAT, NODE_GONE] {
            said.arg(time.as_millis() as u64);
        }
        let heard: (usize, usize, usize, bool) = said.invoke_async(speaks).await?;
        let (others, listeners, mut node, is_its_turn) = heard;
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg(self.channel(MAIN_NAMESPACE));
        let (_, all): (String, usize) = command.query_async(speaks).await?;
        if all + self.elders.count(MAIN_NAMESPACE) <= listeners {
            node = 0;
        } else if is_its_turn && let Some(count) = self.count_node().await {
            node = count;
            let mut said = say_node.key(self.census_key());
            said.arg(count).invoke_async::<()>(speaks).await?;
        }
        self.census.0.store(others + node, Ordering::Relaxed);
        Ok(())
    }

    /// How many clients Node's servers have in the main namespace, if they say so.
    async fn count_node(&self) -> Option<usize> {
        let mut count = 0;
        let take = |said| {
            // MixLab's servers say how many they are.
            if let Said::Sockets(sockets) = said {
                count += sockets.len();
            }
        };
        let until = Instant::now() + ANSWER;
        let everybody = Selection::default();
        let asked = self.ask_count(MAIN_NAMESPACE, &everybody, until, take);
        asked.await.ok()?;
        Some(count)
    }

    /// The names of the servers that have said lately that they are there, and listen to the main namespace's
    /// channel; this one's and those of Node's are not among them.
    pub(super) async fn listeners(
        &self,
        speaks: &mut MultiplexedConnection,
    ) -> RedisResult<Vec<String>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.census_key());
        let said: HashMap<String, String> = command.query_async(speaks).await?;
        let listens = |said: &str| said.split(' ').nth(1) == Some("1");
        let names = said.into_iter();
        let names = names.filter(|(name, said)| listens(said) && **name != *self.queue.name);
        Ok(names.map(|(name, _)| name).collect())
    }

    /// This server has no clients any more.
    pub(crate) async fn leave_census(&self) {
        let Some(mut speaks) = self.channels.speaks() else {
            return;
        };
        let mut command = redis::cmd("HDEL");
        command.arg(self.census_key()).arg(&*self.queue.name);
        // Otherwise it is gone a moment later.
        let _ = timeout(ANSWER, command.query_async::<()>(&mut speaks)).await;
    }

    fn census_key(&self) -> String {
        self.link.key("clients")
    }
}
