//! Timers that are due: called, ended together with what they did, tried again when they fail.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::{Semaphore, SemaphorePermit, watch},
    task::yield_now,
};
use tokio_util::sync::CancellationToken;

use super::{
    Dispatcher,
    failure::{self, During},
    serial::{Entered, Turn},
};
use crate::{
    effect,
    plugin::{CallError, CallKind, Completed, Firing, Job, Reply},
    registry::Timed,
    shorten::shortened,
    store::{Bucket, CommitError, Key, Open, ScanError, Transaction, now},
    tasks::Task,
    timers::{Clock, Kind, Schedule, Timer, bucket},
};

/// So many timers of all plugins are called at once, and so many of one: each waits for an instance, as
/// an event does.
const AT_ONCE: usize = 64;
const AT_ONCE_OF_PLUGIN: usize = 16;

/// A timer whose plugin has too many others under way, or whose store fails, is tried again after so
/// many milliseconds.
const BUSY: u64 = 20;
const UNSTORED: u64 = 1000;

/// So many rows are read at once.
const PAGE: usize = 1000;

/// How much of a plugin's words is logged.
const MAX_WORDS_CHARS: usize = 1000;

/// The task that calls plugins when their timers are due.
pub(crate) struct Timers {
    due: Arc<Due>,
    published: watch::Receiver<()>,
    /// The plugins whose timers are known, by their generations.
    known: HashMap<Arc<str>, u64>,
}

/// Timers that are due.
struct Due {
    dispatcher: Arc<Dispatcher>,
    clock: Clock,
    permits: Semaphore,
    /// How many are under way, by plugin.
    under_way: Mutex<HashMap<Arc<str>, usize>>,
}

impl Task for Timers {
    const NAME: &'static str = "timers";

    async fn run(&mut self, stop: &CancellationToken) {
        let store = self.due.dispatcher.store.clone();
        self.learn().await;
        loop {
            let due = self.due.clone();
            select! {
                () = stop.cancelled() => return,
                Ok(()) = self.published.changed() => self.learn().await,
                keys = store.written() => due.follow(&keys),
                () = due.next() => {}
            }
        }
    }
}

impl Timers {
    /// Follows the timers of the dispatcher's plugins, as they are published.
    pub(crate) fn new(dispatcher: Arc<Dispatcher>, published: watch::Receiver<()>) -> Self {
        Self {
            due: Arc::new(Due {
                dispatcher,
                clock: Clock::default(),
                permits: Semaphore::new(AT_ONCE),
                under_way: Mutex::default(),
            }),
            published,
            known: HashMap::new(),
        }
    }

    /// Finds the timers of plugins that have come, or have come in another version.
    async fn learn(&mut self) {
        let registry = self.due.dispatcher.registry.load_full();
        self.known
            .retain(|name, _| registry.timed().contains_key(name));
        for (name, timed) in registry.timed() {
            let generation = timed.plugin.generation();
            if self.known.get(name) == Some(&generation) {
                continue;
            }
            match self.due.learn(name, timed).await {
                Ok(()) => _ = self.known.insert(name.clone(), generation),
                // Tried again when anything is published, or written for it.
                Err(error) => {
                    tracing::error!(plugin = &**name, "its timers cannot be read: {error}");
                }
            }
        }
    }
}

impl Due {
    /// Finds the timers of a plugin, and makes those that it declares what it declares.
    async fn learn(&self, plugin: &str, timed: &Timed) -> Result<(), ScanError> {
        let Some(store) = self.dispatcher.store.opened() else {
            return Ok(());
        };
        while !self.declare(&store, plugin, &timed.schedules).await? {}
        for kind in Kind::ALL {
            let bucket = bucket(kind, plugin);
            let mut after = None;
            loop {
                let mut transaction = Transaction::new(store.clone());
                let rows = transaction.scan(&bucket, "", after.as_deref(), PAGE)?;
                for row in &rows {
                    let at = Timer::of_value(&row.value)
                        .ok()
                        .and_then(|timer| waited_for(&timer));
                    self.clock.set(Key::new(&bucket, &row.key)?, at);
                }
                if rows.len() < PAGE {
                    break;
                }
                after = rows.into_iter().next_back().map(|row| row.key);
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Stores the timers that a plugin declares, and no others. False if others have written meanwhile.
    async fn declare(
        &self,
        store: &Arc<Open>,
        plugin: &str,
        schedules: &[Schedule],
    ) -> Result<bool, ScanError> {
        let bucket = bucket(Kind::Declared, plugin);
        let mut transaction = Transaction::new(store.clone());
        // No plugin declares more.
        let rows = transaction.scan(&bucket, "", None, 2 * PAGE)?;
        let declared: HashSet<&str> = schedules.iter().map(|it| it.name.as_str()).collect();
        let is_gone = |key: &str| !declared.contains(key);
        for row in rows.iter().filter(|row| is_gone(&row.key)) {
            transaction.delete(Key::new(&bucket, &row.key)?);
        }
        for schedule in schedules {
            let stored = rows.iter().find(|row| row.key == schedule.name);
            let stored = stored.and_then(|row| Timer::of_value(&row.value).ok());
            if let Some(timer) = schedule.renewed(stored.as_ref()) {
                transaction.set(Key::new(&bucket, &schedule.name)?, timer.to_value());
            }
        }
        if transaction.writes().is_empty() {
            return Ok(true);
        }
        match store.commit_alone(transaction).await {
            Ok(()) => Ok(true),
            Err(CommitError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Timers were set, ended or cancelled.
    fn follow(&self, keys: &[Key]) {
        let Some(store) = self.dispatcher.store.opened() else {
            return;
        };
        for key in keys.iter().filter(|key| owner(key).is_some()) {
            let at = match stored(&store, key) {
                Ok(timer) => timer.as_ref().and_then(waited_for),
                Err(_) => Some(now() + UNSTORED),
            };
            self.clock.set(key.clone(), at);
        }
    }

    /// Waits for a timer that is due, and has it called.
    async fn next(self: &Arc<Self>) {
        // The semaphore is never closed.
        let Ok(permit) = self.permits.acquire().await else {
            return;
        };
        let key = self.clock.next().await;
        SemaphorePermit::forget(permit);
        let this = self.clone();
        self.dispatcher.tasks.spawn(async move {
            let fired = this.fire(&key).await;
            this.permits.add_permits(1);
            if let Err(again) = fired {
                this.clock.set(key, Some(now() + again));
            }
        });
    }

    /// Calls the plugin of a timer that is due. An error says after how many milliseconds it is to be
    /// tried again.
    async fn fire(self: &Arc<Self>, key: &Key) -> Result<(), u64> {
        let Some((kind, name)) = owner(key) else {
            return Ok(());
        };
        let registry = self.dispatcher.registry.load_full();
        // Where it does not serve, its timers are found again when it does.
        let Some(timed) = registry.timed().get(&*name) else {
            return Ok(());
        };
        let Some(_under_way) = UnderWay::begin(self, timed.plugin.name()) else {
            return Err(BUSY);
        };
        let store = self.dispatcher.store.opened().ok_or(UNSTORED)?;
        let Some(timer) = stored(&store, key).map_err(|_| UNSTORED)? else {
            return Ok(());
        };
        match waited_for(&timer) {
            None => return Ok(()),
            Some(at) if at > now() => {
                self.clock.set(key.clone(), Some(at));
                return Ok(());
            }
            Some(_) => {}
        }
        let _turn = match &timer.serial {
            Some(serial) => self.turn(timed, serial).await?,
            None => None,
        };
        self.call(key, kind, timed, timer).await
    }

    async fn turn(&self, timed: &Timed, serial: &str) -> Result<Option<Turn>, u64> {
        match self
            .dispatcher
            .serial
            .enter(timed.plugin.name(), serial.into())
        {
            Entered::Now(turn) => Ok(Some(turn)),
            Entered::Later(turn) => Ok(turn.await.ok()),
            Entered::Full => Err(UNSTORED),
        }
    }

    async fn call(
        self: &Arc<Self>,
        key: &Key,
        kind: Kind,
        timed: &Timed,
        timer: Timer,
    ) -> Result<(), u64> {
        let plugin = &timed.plugin;
        let firing = Arc::new(Firing {
            name: key.name().to_owned(),
            payload: timer.payload.clone(),
            due: timer.due,
            attempt: timer.failures + 1,
        });
        let schedule = timed.schedules.iter().find(|it| it.name == key.name());
        // What is left of it is written by the same commit as what the call writes; nothing is, if it is
        // not what was due any more.
        let amend = |completed: &mut Completed| {
            let store = self.dispatcher.store.opened();
            let store = store.ok_or_else(|| CallError::Store("it is closed".to_owned()))?;
            let transaction = &mut completed.recorded.transaction;
            let transaction =
                transaction.get_or_insert_with(|| Box::new(Transaction::new(store.clone())));
            let own = transaction.writes().contains_key(key);
            if transaction.committed(key)? != Some(timer.to_value()) {
                return Err(CallError::Superseded);
            }
            let left = match &completed.reply {
                Ok(reply) if reply.is_yes() => match (kind, schedule) {
                    // It has set itself anew, or cancelled itself.
                    (Kind::Set, _) if own => return Ok(()),
                    (Kind::Set, _) => timer.answered(),
                    (Kind::Declared, schedule) => schedule.and_then(|it| it.next(&timer)),
                },
                _ => Some(timer.failed()),
            };
            match left {
                Some(left) => transaction.set(key.clone(), left.to_value()),
                None => transaction.delete(key.clone()),
            }
            Ok(())
        };
        let perform = {
            let dispatcher = self.dispatcher.clone();
            move |completed: &mut Completed, _: bool| {
                let effects = std::mem::take(&mut completed.recorded.effects);
                if completed.reply.as_ref().is_ok_and(Reply::is_yes) {
                    effect::commit(effects, None, &dispatcher.broadcast, || {});
                }
                completed.lease = None;
            }
        };
        let job = || Job::Timer(firing.clone());
        let completed = self.dispatcher.transact(plugin, job, amend, perform).await;
        let name = &*firing.name;
        let (attempt, is_last) = (firing.attempt, timer.failed().given_up);
        match completed.reply {
            Ok(Reply::Timer(Ok(()))) => return Ok(()),
            Ok(Reply::Timer(Err(rejection))) => {
                let (code, words) = (
                    &rejection.code,
                    shortened(&rejection.message, MAX_WORDS_CHARS),
                );
                tracing::warn!(plugin = &**plugin.name(), timer = name, attempt, %code, "a timer was not handled: {words}");
            }
            Ok(_) => unreachable!("a timer's call ends with a timer's reply"),
            Err(CallError::Superseded) => return Ok(()),
            Err(error @ (CallError::Store(_) | CallError::Overdue | CallError::Conflict)) => {
                tracing::debug!(plugin = &**plugin.name(), timer = name, "{error}");
                return Err(UNSTORED);
            }
            Err(error) => {
                let during = During::without_connection(CallKind::Timer, name, None);
                failure::report(plugin, &during, &error, completed.written.as_deref());
            }
        }
        if is_last {
            self.dispatcher.metrics.timer_given_up(plugin.name());
            tracing::error!(
                plugin = &**plugin.name(),
                timer = name,
                attempt,
                "a timer is given up: all of its attempts have failed"
            );
        }
        Ok(())
    }
}

/// A timer that is under way.
struct UnderWay {
    due: Arc<Due>,
    plugin: Arc<str>,
}

impl UnderWay {
    /// None if the plugin has too many already.
    fn begin(due: &Arc<Due>, plugin: &Arc<str>) -> Option<Self> {
        let mut under_way = due.under_way.lock();
        let count = under_way.entry(plugin.clone()).or_default();
        if *count >= AT_ONCE_OF_PLUGIN {
            return None;
        }
        *count += 1;
        Some(Self {
            due: due.clone(),
            plugin: plugin.clone(),
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.due.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.plugin) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.plugin);
            }
        }
    }
}

/// When a timer is tried next; none if it is not.
fn waited_for(timer: &Timer) -> Option<u64> {
    (!timer.given_up).then_some(timer.at)
}

/// Which kind of timer a key is for, and whose; none if it is for none.
fn owner(key: &Key) -> Option<(Kind, String)> {
    let of_kind = |kind| {
        let prefix = bucket(kind, "");
        let key = key.bucket();
        let name = key.as_str().strip_prefix(Bucket::as_str(&prefix))?;
        Some((kind, name.to_owned()))
    };
    Kind::ALL.into_iter().find_map(of_kind)
}

fn stored(store: &Arc<Open>, key: &Key) -> Result<Option<Timer>, CommitError> {
    let value = Transaction::new(store.clone()).get(key)?;
    Ok(value.and_then(|value| Timer::of_value(&value).ok()))
}
