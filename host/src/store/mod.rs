//! What plugins remember: keys and values in buckets, read and written by transactions.
//!
//! On a disk ([`local`]), a transaction is held against what others have written meanwhile, and applied, at
//! once and in memory, under one short lock ([`recent`]). It becomes durable afterwards, in groups, by one
//! writer thread ([`writer`]). What waits for that is performed in the order of the commits ([`following`]).
//!
//! In Redis ([`remote`]), which servers have in common, one script does both, and what was read is held
//! against what is there by the numbers of its commits.

mod disk;
mod following;
mod key;
mod local;
mod reads;
mod recent;
mod rehearsal;
mod remote;
mod transaction;
mod usage;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::{
    fmt, mem,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    disk::OpenError,
    following::{Follow, Tell, Unstored},
    key::{Bucket, InvalidKey, Key},
    reads::{Noted, NotedRange, Reads, Recorded},
    transaction::{Most, Page, ScanError, Transaction, Write},
};
use self::{local::Local, remote::Remote, usage::Usage};
use crate::config::{self, Durability};

/// How often it is looked who waits too long for the disk.
const OVERDUE_INTERVAL: Duration = Duration::from_secs(1);

/// A value with its time to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// When it is gone, in milliseconds since 1970; none: never.
    pub expires: Option<u64>,
}

impl Value {
    /// Whether it is there still.
    fn is_live(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The store of a server. It is opened when the first plugin that needs it is loaded.
pub struct Store {
    config: config::Store,
    /// Where it is, if it is in Redis.
    shared: Option<Shared>,
    opened: ArcSwapOption<Open>,
    /// Who opens it. That may take long, and nobody else is to wait for it.
    opening: Mutex<()>,
    signals: Signals,
    closed: CancellationToken,
    /// Nothing is written to the file.
    is_rehearsal: bool,
    /// Why it shows nothing of the file.
    unseen: OnceLock<String>,
}

/// A store in Redis that is not opened yet.
struct Shared {
    url: config::RedisUrl,
    /// What its keys begin with.
    prefix: String,
    /// Where it is spoken to.
    runtime: Handle,
}

/// What a store tells.
#[derive(Clone, Default)]
struct Signals {
    /// Wakes who performs what waits for a commit.
    settled: Arc<Notify>,
    /// Where that is performed.
    runtime: Arc<OnceLock<Handle>>,
    /// Keys of the host that were written.
    written: Arc<Written>,
}

/// Keys of the host that were written, until somebody takes them.
#[derive(Default)]
struct Written {
    keys: Mutex<Vec<Key>>,
    some: Notify,
}

/// Keys of the host that a commit writes, for whoever follows them: as soon as that is durable. What they
/// are for may reach beyond this server, and cannot be undone.
struct Announce {
    written: Arc<Written>,
    keys: Vec<Key>,
}

impl Written {
    fn announce(&self, keys: Vec<Key>) {
        self.keys.lock().extend(keys);
        self.some.notify_one();
    }
}

impl Follow for Announce {
    /// Of an undone commit, too: what stands there now is what counts.
    fn follow(self: Box<Self>, _: Result<(), Unstored>) {
        self.written.announce(self.keys);
    }

    fn overdue(&mut self) -> Tell {
        Box::new(|| {})
    }
}

/// A store that has been opened.
#[derive(Clone)]
pub enum Open {
    /// Of this server alone.
    Disk(Arc<Local>),
    /// In Redis, of all servers that use it.
    Redis(Arc<Remote>),
    /// What a call has read that is run again.
    Recorded(Arc<Recorded>),
}

/// What comes of a commit.
pub(crate) enum Committing<F> {
    /// It is committed, and what follows is performed when that may be told; or it is not.
    Over(Result<(), Refused<F>>),
    /// That is known when Redis has answered.
    Later(BoxFuture<'static, Result<(), Refused<F>>>),
}

impl<F> Committing<F> {
    /// Waits until it is known.
    pub(crate) async fn known(self) -> Result<(), Refused<F>> {
        match self {
            Self::Over(result) => result,
            Self::Later(result) => result.await,
        }
    }
}

/// Why it is not committed, and what does not follow.
pub(crate) type Refused<F> = (CommitError, Box<F>);

impl Open {
    /// Commits a transaction, and has `follow` performed when that may be told: when it is durable, as
    /// configured, and after what follows former commits. If it cannot be committed, `follow` is given
    /// back.
    pub(crate) fn commit<F: Follow>(
        &self,
        transaction: Transaction,
        follow: Box<F>,
    ) -> Committing<F> {
        match self {
            Self::Disk(local) => Committing::Over(local.commit(transaction, follow)),
            Self::Redis(remote) => remote.commit(&transaction, follow),
            Self::Recorded(_) => Committing::Over(Err((Recorded::refusal(), follow))),
        }
    }

    /// How many keys a bucket has, and how many bytes they and their values take. None in Redis, where each commit
    /// counts anew.
    pub(crate) fn holds(&self, bucket: &Bucket) -> Option<(u64, u64)> {
        match self {
            Self::Disk(local) => Some(local.holds(bucket)),
            Self::Redis(_) | Self::Recorded(_) => None,
        }
    }

    /// What it is configured to be.
    pub(crate) fn config(&self) -> &config::Store {
        match self {
            Self::Disk(local) => local.config(),
            Self::Redis(remote) => remote.config(),
            Self::Recorded(recorded) => recorded.config(),
        }
    }
}

/// Why a transaction is not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// What it read has changed since: the call is to be run again.
    #[error("what the call read has changed meanwhile")]
    Conflict,
    /// What is stored is in another form than the call knows: its plugin has been replaced.
    #[error("its plugin has been replaced by a version that stores otherwise")]
    Outdated,
    /// A bucket would hold too much, or all would.
    #[error("the budget {budget} = {allowed} of {of} is used up")]
    OverQuota {
        /// The key in `mixlab.toml`.
        budget: &'static str,
        /// Its value.
        allowed: String,
        /// What would hold too much.
        of: QuotaOf,
    },
    /// It adds to a value that is no number, or leaves the range of numbers.
    #[error("{key:?} cannot be added to: {reason}")]
    NoNumber {
        /// The bucket, as plugins know it.
        bucket: String,
        /// The key without its bucket.
        key: String,
        /// What stands in the way.
        reason: &'static str,
    },
    /// The disk does not take it, or cannot be read.
    #[error("{0}")]
    Unavailable(Arc<str>),
}

impl CommitError {
    fn no_number(key: &Key, reason: &'static str) -> Self {
        Self::NoNumber {
            bucket: key.bucket().to_string(),
            key: key.name().to_owned(),
            reason,
        }
    }

    /// The bucket that has no room or no number, as plugins know it; none if it is about no bucket, or about
    /// all that are shared.
    pub(crate) fn bucket(&self) -> Option<&str> {
        match self {
            Self::OverQuota {
                of: QuotaOf::Bucket(bucket),
                ..
            }
            | Self::NoNumber { bucket, .. } => Some(bucket),
            _ => None,
        }
    }
}

/// What may hold so much only.
#[derive(Debug, PartialEq, Eq)]
pub enum QuotaOf {
    /// A bucket, as plugins know it.
    Bucket(String),
    /// All buckets that plugins share, together.
    Shared,
}

impl fmt::Display for QuotaOf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Bucket(name) => write!(f, "the bucket {name}"),
            Self::Shared => f.write_str("all shared buckets together"),
        }
    }
}
/// Why a value cannot be added to.
const NO_NUMBER: &str = "its value is no whole number in decimal digits";

/// The same.
const OUT_OF_RANGE: &str = "the sum is out of the range of 64 bits";

impl Store {
    /// Not opened yet.
    pub fn new(config: config::Store) -> Arc<Self> {
        Self::with(config, None, false)
    }

    /// One that shows what the file holds, and keeps in memory what is written.
    pub fn rehearsal(config: config::Store) -> Arc<Self> {
        Self::with(config, None, true)
    }

    /// Of a server of this cluster, if it is in one. It has to run on the server's runtime.
    pub fn of_server(config: config::Store, cluster: &config::Cluster) -> Arc<Self> {
        let url = cluster.url.clone().filter(|_| config.is_in_redis());
        let shared = url.map(|url| Shared {
            url,
            prefix: cluster.prefix.clone(),
            runtime: Handle::current(),
        });
        Self::with(config, shared, false)
    }

    fn with(config: config::Store, shared: Option<Shared>, is_rehearsal: bool) -> Arc<Self> {
        Arc::new(Self {
            config,
            is_rehearsal,
            unseen: OnceLock::new(),
            shared,
            opened: ArcSwapOption::empty(),
            opening: Mutex::default(),
            signals: Signals::default(),
            closed: CancellationToken::new(),
        })
    }

    /// Opens it, if it is not open yet. Blocks.
    pub fn open(&self) -> Result<Open, OpenError> {
        let _opening = self.opening.lock();
        if let Some(open) = self.opened() {
            return Ok(open);
        }
        let (config, signals) = (self.config.clone(), self.signals.clone());
        let open = match &self.shared {
            _ if self.is_rehearsal => Open::Disk(self.rehearse()?),
            Some(shared) => Open::Redis(Remote::start(config, shared, signals)),
            None => Open::Disk(Local::start(config, signals)?),
        };
        self.opened.store(Some(Arc::new(open.clone())));
        Ok(open)
    }

    /// A server may have the file, and writes to it: what is there now says nothing.
    fn rehearse(&self) -> Result<Arc<Local>, OpenError> {
        let (config, signals) = (self.config.clone(), self.signals.clone());
        match Local::rehearse(config.clone(), signals.clone()) {
            Err(locked @ OpenError::Locked(_)) => {
                let reason = format!("what plugins have stored was not looked at: {locked}");
                self.unseen.get_or_init(|| reason);
                let config = config::Store {
                    durability: Durability::Memory,
                    ..config
                };
                Local::start(config, signals)
            }
            opened => opened,
        }
    }

    /// Whether several servers have it.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether it may hold something, though it was not opened yet.
    pub(crate) fn exists(&self) -> bool {
        let has_file = self.config.durability != Durability::Memory && self.config.path.exists();
        self.is_shared() || has_file
    }

    /// Why a rehearsal shows nothing of the file; none if it does.
    pub fn unseen(&self) -> Option<&str> {
        self.unseen.get().map(String::as_str)
    }

    /// The store, if a plugin needed it yet.
    pub fn opened(&self) -> Option<Open> {
        self.opened.load().as_deref().cloned()
    }

    /// Why what is committed does not become durable; none if it does.
    pub fn failure(&self) -> Option<Arc<str>> {
        match self.opened()? {
            Open::Disk(local) => local.failure(),
            Open::Redis(remote) => remote.failure(),
            Open::Recorded(_) => None,
        }
    }

    /// Makes durable what has been committed. Nothing is committed any more. Blocks.
    pub fn close(&self) {
        match self.opened() {
            Some(Open::Disk(local)) => local.close(),
            Some(Open::Redis(remote)) => remote.close(),
            Some(Open::Recorded(_)) | None => {}
        }
        self.closed.cancel();
    }

    /// Waits for keys of the host that are written.
    pub async fn written(&self) -> Vec<Key> {
        loop {
            let keys = mem::take(&mut *self.signals.written.keys.lock());
            if !keys.is_empty() {
                return keys;
            }
            self.signals.written.some.notified().await;
        }
    }

    /// Performs what waits for commits as they become durable, until the store is closed.
    pub async fn settle(&self) {
        self.signals.runtime.get_or_init(Handle::current);
        let interval = OVERDUE_INTERVAL.min(self.config.commit_timeout);
        loop {
            let is_closed = tokio::select! {
                () = self.signals.settled.notified() => false,
                () = self.closed.cancelled() => true,
                () = sleep(interval) => false,
            };
            if let Some(Open::Disk(local)) = self.opened() {
                local.settle().await;
                local.tell_overdue();
            }
            if is_closed {
                return;
            }
        }
    }
}
