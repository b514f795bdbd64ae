//! What plugins remember: keys and values in buckets, read and written by transactions.
//!
//! A transaction is held against what others have written meanwhile, and applied, at once and in
//! memory, under one short lock ([`recent`]). It becomes durable afterwards, in groups, by one writer
//! thread ([`writer`]). What waits for that is performed in the order of the commits ([`following`]).

mod disk;
mod following;
mod key;
mod recent;
mod rehearsal;
mod transaction;
mod usage;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::{
    fmt, mem,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex};
use tokio::{runtime::Handle, sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    disk::OpenError,
    following::{Follow, Tell, Unstored},
    key::{Bucket, InvalidKey, Key},
    transaction::{Most, Page, ScanError, Transaction, Write},
};
use self::{
    disk::{Disk, Held},
    following::Following,
    recent::Recent,
    usage::Usage,
    writer::Writer,
};
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

impl Follow for Announce {
    /// Of an undone commit, too: what stands there now is what counts.
    fn follow(self: Box<Self>, _: Result<(), Unstored>) {
        self.written.keys.lock().extend(self.keys);
        self.written.some.notify_one();
    }

    fn overdue(&mut self) -> Tell {
        Box::new(|| {})
    }
}

/// A store that has been opened.
pub struct Open {
    config: config::Store,
    disk: Disk,
    state: Mutex<State>,
    /// Wakes the writer.
    written: Condvar,
    /// Wakes who performs what waits for a commit.
    signals: Signals,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Wakes who waits for the writer's end.
    ended: Condvar,
}

/// What the one lock guards.
struct State {
    recent: Recent,
    following: Following,
    /// All that was committed up to here is durable.
    durable: u64,
    /// Why the last attempt to write failed; none if it did not.
    failure: Option<Arc<str>>,
    /// What was committed up to this is being written, or the disk failed at it: it may be there.
    in_doubt: Option<u64>,
    writer_sleeps: bool,
    writer_ended: bool,
    is_closed: bool,
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
        /// The key without its bucket.
        key: String,
        /// What stands in the way.
        reason: &'static str,
    },
    /// The disk does not take it, or cannot be read.
    #[error("{0}")]
    Unavailable(Arc<str>),
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

impl Store {
    /// Not opened yet.
    pub fn new(config: config::Store) -> Arc<Self> {
        Self::with(config, false)
    }

    /// One that shows what the file holds, and keeps in memory what is written.
    pub fn rehearsal(config: config::Store) -> Arc<Self> {
        Self::with(config, true)
    }

    fn with(config: config::Store, is_rehearsal: bool) -> Arc<Self> {
        Arc::new(Self {
            config,
            is_rehearsal,
            unseen: OnceLock::new(),
            opened: ArcSwapOption::empty(),
            opening: Mutex::default(),
            signals: Signals::default(),
            closed: CancellationToken::new(),
        })
    }

    /// Opens it, if it is not open yet. Blocks.
    pub fn open(&self) -> Result<Arc<Open>, OpenError> {
        let _opening = self.opening.lock();
        if let Some(open) = self.opened() {
            return Ok(open);
        }
        let open = match self.is_rehearsal {
            true => self.rehearse()?,
            false => Open::start(self.config.clone(), self.signals.clone())?,
        };
        self.opened.store(Some(open.clone()));
        Ok(open)
    }

    /// A server may have the file, and writes to it: what is there now says nothing.
    fn rehearse(&self) -> Result<Arc<Open>, OpenError> {
        let (config, signals) = (self.config.clone(), self.signals.clone());
        match Open::rehearse(config.clone(), signals.clone()) {
            Err(locked @ OpenError::Locked(_)) => {
                let reason = format!("what plugins have stored was not looked at: {locked}");
                self.unseen.get_or_init(|| reason);
                let config = config::Store {
                    durability: Durability::Memory,
                    ..config
                };
                Open::start(config, signals)
            }
            opened => opened,
        }
    }

    /// Why a rehearsal shows nothing of the file; none if it does.
    pub fn unseen(&self) -> Option<&str> {
        self.unseen.get().map(String::as_str)
    }

    /// The store, if a plugin needed it yet.
    pub fn opened(&self) -> Option<Arc<Open>> {
        self.opened.load_full()
    }

    /// Why what is committed does not become durable; none if it does.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.opened()?.failure()
    }

    /// Makes durable what has been committed. Nothing is committed any more. Blocks.
    pub fn close(&self) {
        if let Some(open) = self.opened() {
            open.close();
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
            if let Some(open) = self.opened() {
                open.settle().await;
                open.tell_overdue();
            }
            if is_closed {
                return;
            }
        }
    }
}

impl Open {
    fn start(config: config::Store, signals: Signals) -> Result<Arc<Self>, OpenError> {
        let path: Option<PathBuf> = match config.durability {
            Durability::Memory | Durability::Trial => None,
            Durability::Commit | Durability::Interval(_) => Some(config.path.clone()),
        };
        let opened = Disk::open(path, config.commit_timeout)?;
        Self::over(opened, config, signals)
    }

    /// Over what the file holds, if it is to hold anything.
    fn rehearse(config: config::Store, signals: Signals) -> Result<Arc<Self>, OpenError> {
        if config.durability == Durability::Memory {
            return Self::start(config, signals);
        }
        let opened = Disk::rehearse(&config.path, config.commit_timeout)?;
        let config = config::Store {
            durability: Durability::Memory,
            ..config
        };
        Self::over(opened, config, signals)
    }

    fn over(
        (disk, held): (Disk, Held),
        config: config::Store,
        signals: Signals,
    ) -> Result<Arc<Self>, OpenError> {
        let open = Arc::new(Self {
            config,
            disk,
            state: Mutex::new(State {
                recent: Recent::new(held),
                following: Following::default(),
                durable: 0,
                failure: None,
                in_doubt: None,
                writer_sleeps: false,
                writer_ended: false,
                is_closed: false,
            }),
            written: Condvar::new(),
            signals,
            writer: Mutex::default(),
            ended: Condvar::new(),
        });
        let thread = Writer::start(open.clone()).map_err(OpenError::Thread)?;
        *open.writer.lock() = Some(thread);
        Ok(open)
    }

    /// Commits a transaction, and has `follow` performed when that may be told: when it is durable, as
    /// configured, and after what follows former commits. If it cannot be committed, `follow` is given
    /// back.
    pub fn commit<F: Follow>(
        &self,
        mut transaction: Transaction,
        follow: Box<F>,
    ) -> Result<(), (CommitError, Box<F>)> {
        if let Err(error) = transaction.look_up(self) {
            return Err((error, follow));
        }
        let mut state = self.state.lock();
        let state_ref = &mut *state;
        if !follow.is_wanted() {
            return Err((CommitError::Outdated, follow));
        }
        if !state_ref.recent.is_valid(&transaction) {
            return Err((CommitError::Conflict, follow));
        }
        let seq = if transaction.writes().is_empty() {
            // Its answer tells of what it read, which may not be durable yet.
            state_ref.recent.newest_of(&transaction)
        } else {
            if let Some(failure) = self.refuses_writes(state_ref) {
                return Err((CommitError::Unavailable(failure), follow));
            }
            match state_ref.recent.apply(&transaction, &self.config) {
                Ok(seq) => seq,
                Err(error) => return Err((error, follow)),
            }
        };
        let wakes = !transaction.writes().is_empty() && mem::take(&mut state_ref.writer_sleeps);
        let of_host = transaction.writes().keys().filter(|key| key.is_of_host());
        let of_host: Vec<_> = of_host.cloned().collect();
        state_ref.recent.end(&mut transaction);
        if transaction.writes().is_empty() && self.may_be_told(state_ref, seq) {
            drop(state);
            follow.follow(Ok(()));
            return Ok(());
        }
        let last = state_ref.recent.seq();
        if !of_host.is_empty() {
            let written = self.signals.written.clone();
            let keys = of_host;
            let announce = Box::new(Announce { written, keys });
            state_ref.following.push(last, announce);
        }
        state_ref.following.push(last, follow);
        drop(state);
        if wakes {
            self.written.notify_one();
        }
        self.follow_here();
        Ok(())
    }

    /// Whether clients may be told of what was committed then.
    fn may_be_told(&self, state: &State, seq: u64) -> bool {
        seq <= self.tellable(state)
    }

    /// Clients may be told of all that was committed up to this.
    fn tellable(&self, state: &State) -> u64 {
        match self.config.durability {
            Durability::Commit => state.durable,
            Durability::Interval(_) | Durability::Memory | Durability::Trial => u64::MAX,
        }
    }

    /// Why nothing can be written now.
    fn refuses_writes(&self, state: &State) -> Option<Arc<str>> {
        if state.is_closed {
            return Some("the store is closed".into());
        }
        if !state.recent.keeps_up() {
            return Some("the disk does not keep up".into());
        }
        state.failure.clone().or_else(|| self.disk.hangs())
    }

    /// What it is configured to be.
    pub fn config(&self) -> &config::Store {
        &self.config
    }

    fn failure(&self) -> Option<Arc<str>> {
        let failure = self.state.lock().failure.clone();
        failure.or_else(|| self.disk.hangs())
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        self.written.notify_one();
        while !state.writer_ended {
            let wait = OVERDUE_INTERVAL.min(self.config.commit_timeout);
            self.ended.wait_for(&mut state, wait);
            if !state.writer_ended && self.disk.hangs().is_some() {
                tracing::error!(
                    "the store is left as it is: the disk does not answer, and nobody knows what \
                     becomes of what was written last"
                );
                return;
            }
        }
        drop(state);
        let writer = self.writer.lock().take();
        if let Some(Err(panic)) = writer.map(JoinHandle::join) {
            tracing::error!("the store's writer: {}", crate::panics::message(&*panic));
        }
        self.disk.close();
    }
}
