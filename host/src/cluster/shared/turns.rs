//! Turns that calls of all servers take, one after the other, by a key that they have in common.
//!
//! Each call that comes draws a ticket of its server's in Redis, where the tickets of a key stand in a line. Whichever call
//! here has waited longest for the key uses the first ticket of this server whose turn it is: so it does not matter
//! which of them drew it. Who gives a ticket back has the server of the next one told. Tickets of a server that has not
//! been heard of for a while are passed over. Tickets that Redis has lost are put into the line again by their servers.
//!
//! Where Redis is away, calls of this server take their turns among themselves, as they do beside this.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::{RedisResult, Script};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::cluster::{Cluster, asking::channel::within};

/// A server whose tickets have not been renewed for so long has no turn.
const LEASE: Duration = Duration::from_secs(5);

/// How often tickets are renewed. So long it takes at most to find out that a message was lost, or a ticket.
const RENEW: Duration = Duration::from_secs(1);

/// Pause before the channel is listened to again.
const PAUSE: Duration = Duration::from_millis(200);

/// What all scripts need. KEYS: the line, a sorted set of `SERVER TICKET`; the number of the last ticket; a hash of when
/// the leases of servers end. ARGV: the server, its ticket, the lease in milliseconds, what the names of channels begin
/// with, what is published there. They answer the ticket of this server whose turn it is, if it is one's.
const COMMON: &str = r"
local line, last, leases = KEYS[1], KEYS[2], KEYS[3]
local server, ticket, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function first()
    return redis.call('ZRANGEBYSCORE', line, '-inf', '+inf', 'LIMIT', 0, 1)[1]
end
local function renew()
    redis.call('HSET', leases, server, string.format('%.0f', now + lease))
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 4 * lease) end
end
local function enter(number)
    redis.call('ZADD', line, 'NX', redis.call('INCR', last), server .. ' ' .. number)
end
local before = first()
local function answer()
    while true do
        local next = first()
        if not next then
            redis.call('DEL', line, last, leases)
            return false
        end
        local its, number = string.match(next, '^(%S+) (%d+)$')
        local ends = its and tonumber(redis.call('HGET', leases, its) or 0)
        if ends and ends > now + lease then
            -- Redis' clock has been set back, or another Redis has taken over.
            ends = now + lease
            redis.call('HSET', leases, its, string.format('%.0f', ends))
        end
        if ends and ends > now then
            if its == server then return number end
            if next ~= before then redis.call('PUBLISH', ARGV[4] .. its, ARGV[5] .. ' ' .. number) end
            return false
        end
        redis.call('ZREM', line, next)
    end
end
";

/// One more waits for its turn.
const ENTER: &str = r"
enter(ticket)
renew()
return answer()";

/// One does not wait any more, or has had its turn.
const LEAVE: &str = r"
redis.call('ZREM', line, server .. ' ' .. ticket)
return answer()";

/// Those of this server are there still. Redis may have lost some, and others may have passed them over. ARGV, beside
/// those: all that there are.
const RENEWED: &str = r"
for index = 6, #ARGV do
    if not redis.call('ZSCORE', line, server .. ' ' .. ARGV[index]) then enter(ARGV[index]) end
end
if first() then renew() end
return answer()";

/// The turns that calls of this server wait for, or have.
pub(crate) struct Turns {
    lanes: Mutex<HashMap<Arc<str>, Lane>>,
    last: AtomicU64,
    enter: Script,
    leave: Script,
    renewed: Script,
}

/// The calls with one key.
#[derive(Default)]
struct Lane {
    /// The tickets of calls that have no turn yet.
    waiting: Vec<Ticket>,
    /// Those of calls that have one.
    running: Vec<u64>,
    /// Something has changed for the first that waits.
    changed: Arc<Notify>,
}

struct Ticket {
    number: u64,
    /// It is its turn, or nobody is there to say so.
    is_called: bool,
}

/// A call's place in the line of a key, and then its turn, until it is dropped.
pub(crate) struct Place {
    cluster: Arc<Cluster>,
    name: Arc<str>,
    /// The ticket whose turn it has.
    has: Option<u64>,
    /// The server's runtime: it may be dropped elsewhere.
    runtime: Handle,
}

impl Turns {
    /// Nobody waits yet.
    pub(crate) fn new() -> Self {
        let script = |text: &str| Script::new(&[COMMON, text].concat());
        Self {
            lanes: Mutex::default(),
            last: AtomicU64::default(),
            enter: script(ENTER),
            leave: script(LEAVE),
            renewed: script(RENEWED),
        }
    }

    /// It is the turn of a ticket. Whether there is such a one that waits or runs here.
    fn call(&self, name: &str, number: u64) -> bool {
        let mut lanes = self.lanes.lock();
        let Some(lane) = lanes.get_mut(name) else {
            return false;
        };
        let mut waiting = lane.waiting.iter_mut();
        match waiting.find(|ticket| ticket.number == number) {
            Some(ticket) => ticket.is_called = true,
            None => return lane.running.contains(&number),
        }
        lane.changed.notify_one();
        true
    }

    /// Nobody says whose turn it is: that is between the calls of this server now.
    fn go_on_alone(&self) {
        for lane in self.lanes.lock().values_mut() {
            lane.waiting
                .iter_mut()
                .for_each(|ticket| ticket.is_called = true);
            lane.changed.notify_one();
        }
    }

    /// Whether a call that waits or runs here has this ticket.
    fn has(&self, name: &str, number: u64) -> bool {
        let lanes = self.lanes.lock();
        lanes
            .get(name)
            .is_some_and(|lane| lane.tickets().contains(&number))
    }

    /// The tickets of this server, by what they are for.
    fn tickets(&self) -> Vec<(Arc<str>, Vec<u64>)> {
        let lanes = self.lanes.lock();
        let tickets = lanes
            .iter()
            .map(|(name, lane)| (name.clone(), lane.tickets()));
        tickets.collect()
    }
}

impl Lane {
    fn tickets(&self) -> Vec<u64> {
        let waiting = self.waiting.iter().map(|ticket| ticket.number);
        self.running.iter().copied().chain(waiting).collect()
    }

    /// Takes a ticket whose turn it is.
    fn take_called(&mut self) -> Option<u64> {
        let called = self.waiting.iter().position(|ticket| ticket.is_called)?;
        let number = self.waiting.remove(called).number;
        self.running.push(number);
        Some(number)
    }
}

impl Place {
    /// Waits until it is this call's turn. Of the calls with its key that are here, only the first may.
    pub(crate) async fn turn(&mut self) {
        loop {
            let changed = {
                let mut lanes = self.cluster.turns.lanes.lock();
                let lane = lanes.entry(self.name.clone()).or_default();
                self.has = lane.take_called();
                lane.changed.clone()
            };
            if self.has.is_some() {
                return;
            }
            changed.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = {
            let mut lanes = self.cluster.turns.lanes.lock();
            let Some(lane) = lanes.get_mut(&self.name) else {
                return;
            };
            let number = match self.has {
                Some(number) => {
                    lane.running.retain(|running| *running != number);
                    Some(number)
                }
                // The last one's, since those who wait behind it move up.
                None => lane.waiting.pop().map(|ticket| ticket.number),
            };
            if lane.waiting.is_empty() && lane.running.is_empty() {
                lanes.remove(&self.name);
            }
            number
        };
        if let Some(number) = number {
            let (cluster, name) = (self.cluster.clone(), self.name.clone());
            self.runtime
                .spawn(async move { cluster.leave_turn(name, number).await });
        }
    }
}

impl Cluster {
    /// A call comes, behind all that came before with this key, on whichever server.
    pub(crate) fn enter_turn(self: &Arc<Self>, name: &str) -> Place {
        let number = self.turns.last.fetch_add(1, Ordering::Relaxed);
        let name: Arc<str> = name.into();
        {
            let mut lanes = self.turns.lanes.lock();
            let lane = lanes.entry(name.clone()).or_default();
            lane.waiting.push(Ticket {
                number,
                is_called: false,
            });
        }
        let runtime = Handle::current();
        let (cluster, lane) = (self.clone(), name.clone());
        runtime.spawn(async move {
            let called = cluster
                .tell_turn(&cluster.turns.enter, &lane, number, &[])
                .await;
            match called {
                Some(Some(called)) => cluster.call_turn(lane, called).await,
                Some(None) => {}
                None => _ = cluster.turns.call(&lane, number),
            }
        });
        Place {
            cluster: self.clone(),
            name,
            has: None,
            runtime,
        }
    }

    /// Keeps the tickets of this server, and hears whose turn it is.
    pub(crate) async fn keep_turns(&self) {
        loop {
            if let Err(error) = self.hear_turns().await {
                tracing::debug!(%error, "turns among servers are not heard of");
            }
            self.turns.go_on_alone();
            sleep(PAUSE).await;
        }
    }

    async fn hear_turns(&self) -> RedisResult<()> {
        let (mut sink, mut heard) = within(self.link.subscribe()).await?.split();
        within(sink.subscribe(self.turn_channel(self.name()))).await?;
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = heard.next() => {
                    let Some(message) = message else {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    };
                    let said = message.get_payload::<String>().unwrap_or_default();
                    let said = said.rsplit_once(' ');
                    if let Some((name, number)) = said.and_then(|(name, number)| Some((name, number.parse().ok()?))) {
                        self.call_turn(name.into(), number).await;
                    }
                }
                _ = renew.tick() => {
                    within(sink.ping::<()>()).await?;
                    for (name, tickets) in self.turns.tickets() {
                        match self.tell_turn(&self.turns.renewed, &name, 0, &tickets).await {
                            Some(Some(called)) => self.call_turn(name.clone(), called).await,
                            Some(None) => {}
                            None => self.turns.go_on_alone(),
                        }
                        // Those that were given back meanwhile may have been put back.
                        let is_gone = |number: &u64| !self.turns.has(&name, *number);
                        for number in tickets.into_iter().filter(is_gone) {
                            self.leave_turn(name.clone(), number).await;
                        }
                    }
                }
            }
        }
    }

    /// It is the turn of a ticket of this server. One that nobody has any more is given back.
    async fn call_turn(&self, name: Arc<str>, number: u64) {
        if !self.turns.call(&name, number) {
            self.leave_turn(name, number).await;
        }
    }

    async fn leave_turn(&self, name: Arc<str>, mut number: u64) {
        loop {
            // Where Redis does not hear it, the ticket is called again, or passed over.
            let called = self.tell_turn(&self.turns.leave, &name, number, &[]).await;
            match called.flatten() {
                Some(called) if !self.turns.call(&name, called) => number = called,
                _ => return,
            }
        }
    }

    /// Tells Redis of a ticket, or of all. Answers which one of this server's has its turn by then, if one has; none if
    /// Redis does not say.
    async fn tell_turn(
        &self,
        script: &Script,
        name: &str,
        number: u64,
        all: &[u64],
    ) -> Option<Option<u64>> {
        let mut invocation = script.prepare_invoke();
        for what in ["line", "last", "leases"] {
            // One script takes only keys of one slot.
            invocation.key(self.link.key(&format!("{{turn:{name}}}:{what}")));
        }
        invocation
            .arg(self.name())
            .arg(number)
            .arg(LEASE.as_millis() as u64);
        invocation.arg(self.turn_channel("")).arg(name).arg(all);
        let ask = async |mut redis| invocation.invoke_async(&mut redis).await;
        self.ask_redis(ask).await
    }

    fn turn_channel(&self, server: &str) -> String {
        format!("{}:mixlab:turns:{server}", self.link.prefix)
    }
}
