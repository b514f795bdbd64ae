//! The one thread that writes to the disk: it takes all that was committed meanwhile, and makes it
//! durable at once.

use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{
    Open, Unstored,
    disk::Batch,
    following::tell,
    local::{Local, State},
    transaction::{Transaction, Write},
};
use crate::{config::Durability, panics};

/// How long the writer of a store in memory gathers what it moves out of the way.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// How often keys are looked for whose time is over.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// So many of them are deleted at once.
const EXPIRED_AT_ONCE: usize = 1000;

/// Pause after a failure, where nobody waits: what it failed at may pass.
const RETRY: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    store: Arc<Local>,
    /// When it wrote last, or tried to.
    wrote: Instant,
    /// When it looked for keys whose time is over; none if it left some.
    swept: Option<Instant>,
}

impl Writer {
    /// Writes for a store, until it is closed.
    pub(super) fn start(store: Arc<Local>) -> io::Result<JoinHandle<()>> {
        let mut writer = Self {
            store,
            wrote: Instant::now(),
            swept: Some(Instant::now()),
        };
        let thread = thread::Builder::new().name("store".to_owned());
        thread.spawn(move || {
            loop {
                let turn = catch_unwind(AssertUnwindSafe(|| writer.turn()));
                match turn {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(panic) => writer.failed(&panics::message(&*panic).into()),
                }
            }
        })
    }

    /// Waits for something to write, and writes it. Whether there may be more.
    fn turn(&mut self) -> bool {
        self.wait();
        let runtime = self.store.signals.runtime.get().cloned();
        // What follows commits belongs there.
        let _entered = runtime.as_ref().map(Handle::enter);
        self.wrote = Instant::now();
        let (failed, is_closed) = {
            let state = self.store.state.lock();
            (state.failure.is_some(), state.is_closed)
        };
        if failed && let Err(reason) = self.recover() {
            match is_closed {
                true => tracing::error!("what was not written is lost: {reason}"),
                false => tracing::debug!("the store still cannot be written: {reason}"),
            }
            return !is_closed;
        }
        self.sweep();
        self.write();
        self.follow(runtime.is_some());
        !is_closed
    }

    /// Waits until there is something to do.
    fn wait(&self) {
        let mut state = self.store.state.lock();
        while !state.is_closed {
            let Some(next) = self.next(&state) else {
                state.writer_sleeps = true;
                self.store.written.wait(&mut state);
                continue;
            };
            if next <= Instant::now() {
                break;
            }
            // Who commits may wait for it, or for the time only.
            state.writer_sleeps = self.gathers().is_none() && state.failure.is_none();
            self.store.written.wait_until(&mut state, next);
        }
        state.writer_sleeps = false;
    }

    /// When there is something to do; none if nothing was committed that it has not written.
    fn next(&self, state: &State) -> Option<Instant> {
        if state.failure.is_some() {
            return Some(self.wrote + RETRY);
        }
        let gathers = self.gathers();
        let pending = state.recent.has_pending();
        let write =
            pending.then(|| gathers.map_or_else(Instant::now, |gathers| self.wrote + gathers));
        let expiries = state.recent.has_expiries();
        let sweep = expiries.then(|| self.next_sweep());
        write.into_iter().chain(sweep).min()
    }

    fn next_sweep(&self) -> Instant {
        let swept = self.swept.map(|swept| swept + EXPIRY_INTERVAL);
        swept.unwrap_or_else(Instant::now)
    }

    /// How long it gathers before it writes.
    fn gathers(&self) -> Option<Duration> {
        match self.store.config().durability {
            Durability::Commit | Durability::Trial => None,
            Durability::Interval(interval) => Some(interval),
            Durability::Memory => Some(MEMORY_INTERVAL),
        }
    }

    /// Writes what was committed until now.
    fn write(&self) {
        let (batch, seq) = {
            let mut state = self.store.state.lock();
            let seq = state.recent.seq();
            state.in_doubt = Some(seq);
            (state.recent.pending(), seq)
        };
        if !batch.values.is_empty()
            && let Err(reason) = self.store.disk.write(&batch)
        {
            self.failed(&reason);
            if let Err(reason) = self.find_out() {
                tracing::debug!("the store cannot be read: {reason}");
            }
            return;
        }
        let mut state = self.store.state.lock();
        state.in_doubt = None;
        state.durable = seq;
        state.recent.written(seq);
    }

    /// Has performed what follows what is durable now. What follows one commit alone is performed here: to wake
    /// somebody for it takes longer. More is performed beside the next batch.
    fn follow(&self, is_on_runtime: bool) {
        let is_one = self.store.state.lock().following.len() == 1;
        if is_on_runtime && is_one {
            self.store.follow_here();
        } else {
            self.store.signals.settled.notify_one();
        }
    }

    /// The disk has failed.
    fn failed(&self, reason: &Arc<str>) {
        tracing::error!("the store cannot be written: {reason}");
        self.store.state.lock().failure = Some(reason.clone());
    }

    /// Opens the database anew, as it has to be after a failure, and sees what has become of what the disk
    /// failed at: it may be there. Where clients wait for it, they are told, and what is not there has not
    /// happened; where they were told before, it is tried again.
    fn find_out(&self) -> Result<(), Arc<str>> {
        let reopened = self.store.disk.reopen();
        let Some(reopened) = reopened.map_err(|error| error.to_string())? else {
            return Ok(());
        };
        let undone = {
            let mut state = self.store.state.lock();
            if !matches!(self.store.config().durability, Durability::Commit) {
                return Ok(());
            }
            if let Some(seq) = state.in_doubt.take()
                && reopened.has_last
            {
                state.durable = seq;
                state.recent.written(seq);
            }
            let durable = state.durable;
            state.recent.undo(durable);
            state.recent.restore(reopened.held);
            state.following.take_undone(durable)
        };
        let failure = self.store.state.lock().failure.clone();
        let reason = failure.unwrap_or_else(|| "the disk failed".into());
        for follow in undone {
            tell(follow, Err(Unstored::Undone(reason.clone())));
        }
        self.store.signals.settled.notify_one();
        Ok(())
    }

    /// Whether the disk takes something again.
    fn recover(&self) -> Result<(), Arc<str>> {
        self.find_out()?;
        self.store.disk.write(&Batch::default())?;
        self.store.state.lock().failure = None;
        tracing::info!("the store is written again");
        Ok(())
    }

    /// Deletes keys whose time is over, as if somebody had.
    fn sweep(&mut self) {
        if self.next_sweep() > Instant::now() {
            return;
        }
        let expired = self.store.state.lock().recent.expired(EXPIRED_AT_ONCE);
        self.swept = (expired.len() < EXPIRED_AT_ONCE).then(Instant::now);
        for (expires, key) in expired {
            let mut transaction = Transaction::new(Open::Disk(self.store.clone()));
            transaction.delete(key.clone());
            if transaction.look_up(&self.store).is_err() {
                return;
            }
            let mut state = self.store.state.lock();
            let found = match state.recent.get(&key) {
                Some(value) => value.and_then(|value| value.expires),
                None => {
                    let former = transaction.former(&key, &Write::Delete);
                    former.and_then(|former| former.expires)
                }
            };
            if found == Some(expires) {
                debug_assert_eq!(transaction.writes().get(&key), Some(&Write::Delete));
                // A key less is within every quota.
                let _ = state.recent.apply(&transaction, self.store.config());
            } else {
                state.recent.forget_expiry(expires, &key);
            }
            state.recent.end(&mut transaction);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever waits still is told that it is over.
        let waiting = {
            let mut state = self.store.state.lock();
            let durable = mem::replace(&mut state.durable, u64::MAX);
            state.writer_ended = true;
            state.following.take_undone(durable)
        };
        for follow in waiting {
            tell(follow, Err(Unstored::Undone("the store is closed".into())));
        }
        self.store.ended.notify_all();
    }
}
