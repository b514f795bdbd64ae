//! What programs that are no servers say on channels, and is put into the stream, once.
//!
//! All servers hear it. One, which holds a lease in Redis, puts it into the stream; the others keep it until they
//! read it there, and so does the one itself. If the one dies, whoever has the lease next puts in what
//! was not: it reads the stream up to where the lease began before, and what the former holder sends later
//! Redis does not take. Whoever may have missed something stands back for so long that another one, who may
//! have heard it, is first.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ahash::HashMap;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use redis::{Msg, RedisResult, Script, aio::MultiplexedConnection};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::foreign;
use crate::cluster::{
    Cluster, Entry, EntryId, LOOK, asking::channel::within, stream::entry::Unreadable,
};
use crate::config::Accept;

/// How long a lease holds.
const LEASE: Duration = Duration::from_secs(2);

/// How often it is tried to get it.
const TRY: Duration = Duration::from_millis(250);

/// How long one who may have missed something waits: longer than until another one has the lease.
const STAND_BACK: Duration = Duration::from_secs(4);

/// How long what was heard is kept: someone has put it into the stream long before.
const KEPT: Duration = Duration::from_secs(30);

/// What was read before it was heard is heard within this time, or has been missed.
const EARLY: Duration = Duration::from_secs(2);

/// How long the reader may take to be where the stream is.
const READ: Duration = Duration::from_secs(2);

/// So much may wait; what would be more is dropped.
const MAX_WAITING: usize = 100_000;

/// So many are put in at once.
const BATCH: usize = 256;

/// Pause before Redis is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// The channel of python-socketio.
const PYTHON: &str = "socketio";

/// What pickle begins with, which python-socketio speaks before 5.14.
const PICKLE: u8 = 0x80;

/// Takes the lease, under a name of this server's that no former one had; answers whether that was possible, and
/// the newest entry's id.
const ACQUIRE: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder and string.sub(holder, 1, #ARGV[1]) ~= ARGV[1] then return { 0, '' } end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
return { 1, newest[1] and newest[1][1] or '0-0' }
";

/// Adds entries, if the lease is held under this name still.
const FORWARD: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 5, #ARGV, 5 do
    local entry = { 'XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'uid', ARGV[4], 'nsp', ARGV[i], 'type', ARGV[i + 1],
        'data', ARGV[i + 2], 'of', ARGV[i + 3] }
    if ARGV[i + 4] ~= '' then
        entry[#entry + 1] = 'mac'
        entry[#entry + 1] = ARGV[i + 4]
    end
    redis.call(unpack(entry))
end
return 1
";

/// What was heard and not read in the stream.
#[derive(Default)]
pub(crate) struct Inbound(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// The oldest first.
    heard: VecDeque<Heard>,
    /// How many of the first were sent.
    sent: usize,
    /// What was read before it was heard: how many times, and when last.
    early: HashMap<u64, (usize, Instant)>,
}

struct Heard {
    /// Tells it from others, the same on all servers.
    tag: u64,
    namespace: String,
    kind: u8,
    data: String,
    at: Instant,
}

impl Inbound {
    fn hear(&self, tag: u64, entry: &Entry) {
        let mut waiting = self.0.lock();
        if let Some((times, _)) = waiting.early.get_mut(&tag) {
            *times -= 1;
            if *times == 0 {
                waiting.early.remove(&tag);
            }
            return;
        }
        if waiting.heard.len() >= MAX_WAITING {
            return tracing::error!("too much waits that emitters have sent: an event is lost");
        }
        let (kind, data) = entry.change.write(&entry.to);
        waiting.heard.push_back(Heard {
            tag,
            namespace: entry.namespace.clone(),
            kind,
            data,
            at: Instant::now(),
        });
    }

    /// What has this tag was read in the stream.
    pub(crate) fn is_in(&self, tag: u64) {
        let mut waiting = self.0.lock();
        match waiting.heard.iter().position(|heard| heard.tag == tag) {
            Some(index) => {
                waiting.heard.remove(index);
                if index < waiting.sent {
                    waiting.sent -= 1;
                }
            }
            None => {
                let early = waiting.early.entry(tag).or_insert((0, Instant::now()));
                *early = (early.0 + 1, Instant::now());
            }
        }
    }

    /// What nobody has put into the stream for very long, nobody will.
    fn forget_old(&self) {
        let mut waiting = self.0.lock();
        waiting.early.retain(|_, (_, at)| at.elapsed() < EARLY);
        let is_old = |heard: &Heard| heard.at.elapsed() > KEPT;
        while waiting.heard.front().is_some_and(is_old) {
            waiting.heard.pop_front();
            waiting.sent = waiting.sent.saturating_sub(1);
            tracing::error!("an event of an emitter is lost: it did not get into the stream");
        }
    }

    fn rewind(&self) {
        self.0.lock().sent = 0;
    }

    fn has_unsent(&self) -> bool {
        let waiting = self.0.lock();
        waiting.sent < waiting.heard.len()
    }
}

/// The one who hears emitters.
pub(crate) struct Listener {
    cluster: Arc<Cluster>,
    /// The name under which the lease is held.
    lease: Option<String>,
    /// Counts the leases.
    leases: u64,
    /// Not before then is the lease taken.
    not_before: Instant,
    has_listened: bool,
    is_lost: bool,
    has_refused: AtomicBool,
}

impl Listener {
    /// Hears what is accepted.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            lease: None,
            leases: 0,
            not_before: Instant::now(),
            has_listened: false,
            is_lost: false,
            has_refused: AtomicBool::new(false),
        }
    }

    /// Hears, over lost connections.
    pub(crate) async fn run(&mut self) {
        loop {
            let ended = self.listen().await;
            self.lease = None;
            if let Err(error) = ended
                && !std::mem::replace(&mut self.is_lost, true)
            {
                tracing::error!(%error, "the connection to Redis is lost: what emitters send meanwhile is lost");
            }
            sleep(PAUSE).await;
        }
    }

    async fn listen(&mut self) -> RedisResult<()> {
        let cluster = self.cluster.clone();
        let link = &cluster.link;
        let mut redis = link.connect().await?;
        let (mut sink, mut heard) = within(link.subscribe()).await?.split();
        if cluster.accept.contains(&Accept::RedisEmitter) {
            let prefix = link.pattern();
            within(sink.psubscribe(&[format!("{prefix}#*"), format!("{prefix}-request#*")]))
                .await?;
        }
        if cluster.accept.contains(&Accept::PythonSocketio) {
            within(sink.subscribe(PYTHON)).await?;
        }
        if std::mem::replace(&mut self.has_listened, true) {
            self.not_before = Instant::now() + STAND_BACK;
        }
        if std::mem::take(&mut self.is_lost) {
            tracing::info!("emitters are heard again");
        }
        let (acquire, forward) = (Script::new(ACQUIRE), Script::new(FORWARD));
        let mut again = interval(TRY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pinged = Instant::now();
        loop {
            let mut is_tick = false;
            tokio::select! {
                message = heard.next() => {
                    let Some(message) = message else {
                        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                    };
                    self.hear(&message);
                    while let Some(Some(message)) = heard.next().now_or_never() {
                        self.hear(&message);
                    }
                }
                _ = again.tick() => is_tick = true,
            }
            let inbound = &cluster.inbound;
            if is_tick {
                inbound.forget_old();
                if pinged.elapsed() > LEASE {
                    within(sink.ping::<()>()).await?;
                    pinged = Instant::now();
                }
            }
            if !inbound.has_unsent() {
                continue;
            }
            if self.lease.is_none() && !self.acquire(&mut redis, &acquire).await? {
                continue;
            }
            while self.lease.is_some() && inbound.has_unsent() {
                self.forward(&mut redis, &forward).await?;
            }
        }
    }

    fn hear(&self, message: &Msg) {
        let (channel, said) = (message.get_channel_name(), message.get_payload_bytes());
        match self.read(channel, said) {
            Ok(Some(entry)) => self.cluster.inbound.hear(tag(channel, said), &entry),
            Ok(None) => {}
            Err(reason) => tracing::warn!(channel, %reason, "what an emitter says is passed over"),
        }
    }

    fn read(&self, channel: &str, said: &[u8]) -> Result<Option<Entry>, Unreadable> {
        if channel == PYTHON {
            if said.first() == Some(&PICKLE) {
                if !self.has_refused.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        "python-socketio sends pickle, which is refused since it can run code: update it to 5.14.1 or later, \
                         which sends JSON"
                    );
                }
                return Ok(None);
            }
            return foreign::of_python(said);
        }
        let own = channel.strip_prefix(&*self.cluster.link.prefix);
        let request = own.and_then(|rest| rest.strip_prefix("-request#")?.strip_suffix('#'));
        if let Some(namespace) = request {
            return foreign::requested(namespace, said);
        }
        // Servers of the cluster speak in maps there.
        match said.first() {
            Some(0x90..=0x9f | 0xdc | 0xdd) => foreign::emitted(said),
            _ => Ok(None),
        }
    }

    /// Takes the lease, and waits until all that its former holder has put in is read.
    async fn acquire(
        &mut self,
        redis: &mut MultiplexedConnection,
        script: &Script,
    ) -> RedisResult<bool> {
        if Instant::now() < self.not_before {
            return Ok(false);
        }
        let Cluster { queue, link, .. } = &*self.cluster;
        self.leases += 1;
        let (name, number) = (format!("{}:", queue.name), self.leases);
        let mut acquire = script.key(self.cluster.lease_key());
        acquire.key(&*link.prefix).arg(&name).arg(number);
        acquire.arg(LEASE.as_millis() as u64);
        let (is_own, newest): (bool, String) = acquire.invoke_async(redis).await?;
        if !is_own {
            return Ok(false);
        }
        let newest = EntryId::parse(&newest).unwrap_or_default().number();
        let has_read = async {
            while self.cluster.read_up_to.load(Ordering::Acquire) < newest {
                sleep(LOOK).await;
            }
        };
        if timeout(READ, has_read).await.is_err() {
            return Ok(false);
        }
        self.cluster.inbound.rewind();
        self.lease = Some(format!("{name}{number}"));
        Ok(true)
    }

    /// Puts in what waits.
    async fn forward(
        &mut self,
        redis: &mut MultiplexedConnection,
        script: &Script,
    ) -> RedisResult<()> {
        let Cluster {
            queue,
            link,
            inbound,
            signing,
            ..
        } = &*self.cluster;
        let mut forward = script.key(self.cluster.lease_key());
        forward.key(&*link.prefix);
        forward
            .arg(self.lease.as_deref())
            .arg(LEASE.as_millis() as u64);
        forward.arg(link.max_entries).arg(&*queue.name);
        {
            let mut waiting = inbound.0.lock();
            let batch = waiting.heard.iter().skip(waiting.sent).take(BATCH);
            let mut count = 0;
            for heard in batch {
                let (kind, tag) = (heard.kind.to_string(), format!("{:016x}", heard.tag));
                let values = [&*queue.name, &heard.namespace, &kind, &heard.data, "", &tag];
                let code = signing.entry(values).unwrap_or_default();
                forward.arg(&heard.namespace).arg(kind);
                forward.arg(&heard.data).arg(tag).arg(code);
                count += 1;
            }
            waiting.sent += count;
        }
        let is_in: bool = forward.invoke_async(redis).await?;
        if !is_in {
            self.lease = None;
        }
        Ok(())
    }
}

impl Cluster {
    fn lease_key(&self) -> String {
        self.link.key("inbound")
    }
}

/// The same on all servers.
fn tag(channel: &str, said: &[u8]) -> u64 {
    let hash = Sha256::new().chain_update(channel).chain_update([0]);
    let hash = hash.chain_update(said).finalize();
    hash.iter()
        .take(8)
        .fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

/// A tag as it is written, and read.
pub(crate) fn parse_tag(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Selection;

    fn entry() -> Entry {
        Entry {
            namespace: "/".to_owned(),
            to: Selection::default(),
            change: crate::cluster::Change::Leave(Vec::new()),
        }
    }

    fn tags(inbound: &Inbound) -> Vec<u64> {
        inbound.0.lock().heard.iter().map(|it| it.tag).collect()
    }

    #[tokio::test]
    async fn what_was_read_in_the_stream_waits_no_more_in_whatever_order() {
        let inbound = Inbound::default();
        for tag in [1, 2, 1, 3] {
            inbound.hear(tag, &entry());
        }
        inbound.0.lock().sent = 2;
        inbound.is_in(1);
        assert_eq!((tags(&inbound), inbound.0.lock().sent), (vec![2, 1, 3], 1));
        inbound.is_in(3);
        assert_eq!((tags(&inbound), inbound.0.lock().sent), (vec![2, 1], 1));
        // Read before it is heard.
        inbound.is_in(4);
        inbound.hear(4, &entry());
        inbound.hear(4, &entry());
        assert_eq!(tags(&inbound), [2, 1, 4]);
        inbound.rewind();
        assert!(inbound.has_unsent());
    }

    #[test]
    fn a_tag_is_read_as_it_is_written() {
        let tag = tag("socket.io#/#", b"x");
        assert_eq!(parse_tag(&format!("{tag:016x}")), Some(tag));
        assert_ne!(tag, super::tag("socket.io#/", b"#x"));
    }
}
