//! Where the servers of a cluster are. Each that may be asked for sessions says so once a second, and hears where the
//! others are; who says nothing for a while is gone.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use redis::{RedisResult, Script};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Cluster, trust::seal::Seal};
use crate::config::ServerAddress;

/// How often a server says where it is.
const BEAT: Duration = Duration::from_secs(1);

/// A server that has said nothing for so long is gone.
const GONE: Duration = Duration::from_secs(10);

/// Who is not found is looked for again after this at the earliest, whoever asks how often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What an announcement is signed for.
const PURPOSE: &str = "address";

/// Says where a server is. Answers where all are, by their names.
const SAY: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], gone)
local said, there = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #said, 2 do
    local at, where = string.match(said[i + 1], '^(%d+) (.+)$')
    if not at or now - at > gone then
        redis.call('HDEL', KEYS[1], said[i])
    else
        there[#there + 1] = said[i]
        there[#there + 1] = where
    end
end
return there
";

/// What the servers have said.
pub(super) struct Servers {
    /// This one's address, and what it signs with.
    own: Option<(ServerAddress, Seal)>,
    known: Mutex<HashMap<String, ServerAddress>>,
    /// When it was heard last where all are.
    heard: AsyncMutex<Option<Instant>>,
    say: Script,
}

impl Servers {
    /// None has said anything yet; this one does not, if it has no address.
    pub(super) fn new(own: Option<(ServerAddress, Seal)>) -> Self {
        Self {
            own,
            known: Mutex::default(),
            heard: AsyncMutex::default(),
            say: Script::new(SAY),
        }
    }

    fn find(&self, server: &str) -> Option<ServerAddress> {
        self.known.lock().get(server).cloned()
    }
}

impl Cluster {
    /// What servers sign for each other with, where requests may be passed on between them.
    pub(crate) fn passes_on(&self) -> Option<&Seal> {
        self.servers.own.as_ref().map(|(_, seal)| seal)
    }

    /// Where a server of the cluster is, if it is there.
    pub(crate) async fn address_of(&self, server: &str) -> Option<ServerAddress> {
        let found = self.servers.find(server);
        if found.is_some() {
            return found;
        }
        // It may have just started.
        let mut heard = self.servers.heard.lock().await;
        if heard.is_none_or(|heard| heard.elapsed() > LOOK_AGAIN) {
            let told = self.say_address().await;
            told.inspect_err(|error| tracing::debug!(%error, "it is not known where a server is"))
                .ok();
            *heard = Some(Instant::now());
        }
        self.servers.find(server)
    }

    /// Says once a second where this server is.
    pub(crate) async fn announce(&self) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            // While Redis is away, the others are where they were.
            if let Err(error) = self.say_address().await {
                tracing::debug!(%error, "it is not said where this server is");
            }
        }
    }

    /// This server is not there any more.
    pub(crate) async fn withdraw(&self) {
        let gone = async {
            let mut redis = self.link.shared().await?;
            let mut command = redis::cmd("HDEL");
            command.arg(self.addresses_key()).arg(self.name());
            command.query_async::<()>(&mut redis).await
        };
        // Otherwise it is gone a moment later.
        let _ = super::asking::channel::within(gone).await;
    }

    async fn say_address(&self) -> RedisResult<()> {
        let Some((address, seal)) = &self.servers.own else {
            return Ok(());
        };
        let (name, address) = (self.name(), address.as_str());
        let code = seal.sign(PURPOSE, &[name.as_bytes(), address.as_bytes()]);
        let mut said = self.servers.say.key(self.addresses_key());
        said.arg(name).arg(format!("{address} {code}"));
        said.arg(GONE.as_millis() as u64);
        let mut redis = self.link.shared().await?;
        let told: RedisResult<HashMap<String, String>> = said.invoke_async(&mut redis).await;
        let told = match told {
            Ok(told) => told,
            Err(error) => {
                self.link.forget_shared().await;
                return Err(error);
            }
        };
        let told = told.into_iter().filter_map(|(name, said)| {
            let (address, code) = said.split_once(' ')?;
            // Who can write to Redis must not have clients' requests sent to where it likes.
            let is_its = seal.verifies(PURPOSE, &[name.as_bytes(), address.as_bytes()], code);
            let address = ServerAddress::try_from(address.to_owned()).ok()?;
            is_its.then_some((name, address))
        });
        *self.servers.known.lock() = told.collect();
        Ok(())
    }

    fn addresses_key(&self) -> String {
        self.link.key("addresses")
    }
}
