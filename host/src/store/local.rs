//! A store of this server alone: validated and applied in memory, made durable by one writer.

use std::{mem, path::PathBuf, sync::Arc, thread::JoinHandle};

use parking_lot::{Condvar, Mutex};

use super::{
    Announce, CommitError, Follow, OVERDUE_INTERVAL, OpenError, Refused, Signals, Transaction,
    disk::{Disk, Held},
    following::Following,
    recent::Recent,
    writer::Writer,
};
use crate::config::{self, Durability};

/// One that has been opened.
pub struct Local {
    config: config::Store,
    pub(super) disk: Disk,
    pub(super) state: Mutex<State>,
    /// Wakes the writer.
    pub(super) written: Condvar,
    /// Wakes who performs what waits for a commit.
    pub(super) signals: Signals,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Wakes who waits for the writer's end.
    pub(super) ended: Condvar,
}

/// What the one lock guards.
pub(super) struct State {
    pub(super) recent: Recent,
    pub(super) following: Following,
    /// All that was committed up to here is durable.
    pub(super) durable: u64,
    /// Why the last attempt to write failed; none if it did not.
    pub(super) failure: Option<Arc<str>>,
    /// What was committed up to this is being written, or the disk failed at it: it may be there.
    pub(super) in_doubt: Option<u64>,
    pub(super) writer_sleeps: bool,
    pub(super) writer_ended: bool,
    pub(super) is_closed: bool,
}

impl Local {
    pub(super) fn start(config: config::Store, signals: Signals) -> Result<Arc<Self>, OpenError> {
        let path: Option<PathBuf> = match config.durability {
            Durability::Memory | Durability::Trial => None,
            Durability::Commit | Durability::Interval(_) => Some(config.path.clone()),
        };
        let opened = Disk::open(path, config.commit_timeout)?;
        Self::over(opened, config, signals)
    }

    /// Over what the file holds, if it is to hold anything.
    pub(super) fn rehearse(
        config: config::Store,
        signals: Signals,
    ) -> Result<Arc<Self>, OpenError> {
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

    /// How many keys a bucket has, and how many bytes they and their values take.
    pub(super) fn holds(&self, bucket: &super::Bucket) -> (u64, u64) {
        let used = self.state.lock().recent.usage(bucket);
        (used.keys, used.bytes)
    }

    /// Commits a transaction, and has `follow` performed when that may be told: when it is durable, as
    /// configured, and after what follows former commits. If it cannot be committed, `follow` is given
    /// back.
    pub(super) fn commit<F: Follow>(
        &self,
        mut transaction: Transaction,
        follow: Box<F>,
    ) -> Result<(), Refused<F>> {
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
    pub(super) fn tellable(&self, state: &State) -> u64 {
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
    pub(super) fn config(&self) -> &config::Store {
        &self.config
    }

    pub(super) fn failure(&self) -> Option<Arc<str>> {
        let failure = self.state.lock().failure.clone();
        failure.or_else(|| self.disk.hangs())
    }

    pub(super) fn close(&self) {
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
