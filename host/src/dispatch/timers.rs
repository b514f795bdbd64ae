//! Timers that are due: called, ended together with what they did, tried again when they fail.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{select, sync::watch, task::yield_now, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Dispatcher,
    commit::About,
    failure::{self, During},
    serial::{Entered, Turn},
};
use crate::{
    clock::now,
    effect,
    plugin::{CallError, CallKind, Completed, Firing, Job, Reply},
    registry::Timed,
    shorten::shortened,
    store::{CommitError, Key, Most, Open, ScanError, Transaction},
    tasks::Task,
    telemetry::Span,
    timers::{Clock, DueTimer, Kind, Schedule, Timer, bucket, owner},
};

/// A timer whose store fails is tried again after so many milliseconds.
const UNSTORED: u64 = 1000;

/// So much longer than a call may take it has a timer to itself, among servers: to commit takes its time, too.
const CLAIMED: Duration = Duration::from_secs(5);

/// Timers that could not be read are looked for again after this.
const UNREAD: Duration = Duration::from_secs(1);

/// So many rows are read at once.
const PAGE: Most = Most {
    keys: 1000,
    bytes: 4 << 20,
};

/// All that a plugin may have declared: as much as was in its description.
const ALL_DECLARED: Most = Most {
    keys: 2000,
    bytes: usize::MAX,
};

/// How much of a plugin's words is logged.
const MAX_WORDS_CHARS: usize = 1000;

/// The task that calls plugins when their timers are due.
pub(crate) struct Timers {
    due: Arc<Due>,
    published: watch::Receiver<()>,
    /// The plugins whose timers are known, by their generations.
    known: HashMap<Arc<str>, u64>,
    /// Whether those of a plugin could not be read.
    lacks_some: bool,
}

/// Timers that are due.
struct Due {
    dispatcher: Arc<Dispatcher>,
    clock: Arc<Clock>,
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
                () = sleep(UNREAD), if self.lacks_some => self.learn().await,
                () = due.clock.went_back() => {
                    tracing::warn!("the machine's clock has gone back");
                    self.known.clear();
                    self.learn().await;
                }
                keys = store.written() => due.follow(&keys).await,
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
                clock: Arc::default(),
            }),
            published,
            known: HashMap::new(),
            lacks_some: false,
        }
    }

    /// What knows which timer is due next.
    pub(crate) fn clock(&self) -> Arc<Clock> {
        self.due.clock.clone()
    }

    /// Finds the timers of plugins that have come, or have come in another version.
    pub(crate) async fn learn(&mut self) {
        let registry = self.due.dispatcher.registry.load_full();
        self.lacks_some = false;
        self.known
            .retain(|name, _| registry.timed().contains_key(name));
        for (name, timed) in registry.timed() {
            let generation = timed.plugin.generation();
            if self.known.get(name) == Some(&generation) {
                continue;
            }
            match self.due.learn(name, timed).await {
                Ok(()) => _ = self.known.insert(name.clone(), generation),
                Err(error) => {
                    self.lacks_some = true;
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
                let page = transaction.scan(&bucket, "", after.as_deref(), PAGE);
                let page = page.await?;
                let is_last = page.entries.len() < PAGE.keys && !page.is_cut;
                let rows = page.entries;
                // What was read of others is not held against it.
                let mut transaction = Transaction::new(store.clone());
                for row in &rows {
                    let key = Key::new(&bucket, &row.key)?;
                    let timer = Timer::of_value(&row.value).ok();
                    self.clock.set(&key, timer.as_ref().and_then(waited_for));
                    if let Some(timer) = timer.and_then(|timer| timer.put_back(now()))
                        && transaction.get(&key).await?.as_ref() == Some(&row.value)
                    {
                        transaction.set(key, timer.to_value());
                    }
                }
                match store.commit_alone(transaction).await {
                    Ok(()) => {}
                    // One of them was set anew meanwhile: all are read again.
                    Err(CommitError::Conflict) => continue,
                    Err(error) => return Err(error.into()),
                }
                if is_last {
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
        store: &Open,
        plugin: &str,
        schedules: &[Schedule],
    ) -> Result<bool, ScanError> {
        let bucket = bucket(Kind::Declared, plugin);
        let mut transaction = Transaction::new(store.clone());
        // No plugin declares more.
        let rows = transaction.scan(&bucket, "", None, ALL_DECLARED);
        let rows = rows.await?.entries;
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
    async fn follow(&self, keys: &[Key]) {
        let Some(store) = self.dispatcher.store.opened() else {
            return;
        };
        for key in keys.iter().filter(|key| owner(key).is_some()) {
            let at = match stored(&store, key).await {
                Ok(timer) => timer.as_ref().and_then(waited_for),
                Err(_) => Some(now() + UNSTORED),
            };
            self.clock.set(key, at);
        }
    }

    /// Waits for a timer that is due, and has it called.
    async fn next(self: &Arc<Self>) {
        let due = self.clock.next().await;
        let this = self.clone();
        self.dispatcher.tasks.spawn(async move {
            if let Err(again) = this.fire(&due).await {
                this.clock.set_again(&due, now() + again);
            }
        });
    }

    /// Calls the plugin of a timer that is due. An error says after how many milliseconds it is to be
    /// tried again.
    async fn fire(self: &Arc<Self>, due: &DueTimer) -> Result<(), u64> {
        let key = &due.key;
        let registry = self.dispatcher.registry.load_full();
        // Where it does not serve, its timers are found again when it does.
        let Some(timed) = registry.timed().get(&due.plugin) else {
            return Ok(());
        };
        let store = self.dispatcher.store.opened().ok_or(UNSTORED)?;
        let mut transaction = Transaction::new(store.clone());
        let timer = read(&mut transaction, key).await;
        let Some(timer) = timer.map_err(|_| UNSTORED)? else {
            return Ok(());
        };
        match waited_for(&timer) {
            None => return Ok(()),
            Some(at) if at > now() => {
                self.clock.set(key, Some(at));
                return Ok(());
            }
            Some(_) => {}
        }
        let _turn = match &timer.serial {
            Some(key) => Some(self.turn(timed, key).await?),
            None => None,
        };
        let time = timed.plugin.wall() + CLAIMED;
        let claimed = transaction.claim(key, time).await;
        if !claimed.map_err(|_| UNSTORED)? {
            // Another server calls it. If that one dies meanwhile, the timer stays as it is.
            return Err(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        }
        self.call(key, due.kind, timed, timer).await
    }

    async fn turn(&self, timed: &Timed, key: &str) -> Result<Turn, u64> {
        let plugin = &timed.plugin;
        let serial = &self.dispatcher.serial;
        match serial.enter(plugin.name(), key.into(), None) {
            Entered::Now(turn) => Ok(turn),
            Entered::Later(coming) => coming.within(plugin.wall()).await.ok_or(UNSTORED),
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
        let next = || match kind {
            Kind::Set => timer.answered(),
            Kind::Declared => schedule.and_then(|it| it.next(&timer)),
        };
        // What is left of it is written by the same commit as what the call writes; nothing is, if it is
        // not what was due any more.
        let amend = |completed: &mut Completed| {
            let Some(transaction) = &mut completed.recorded.transaction else {
                return Err(CallError::Host("a timer has no transaction".to_owned()));
            };
            let own = transaction.writes().contains_key(key);
            if transaction.known(key) != Some(timer.to_value()) {
                return Err(CallError::Superseded);
            }
            let left = match &completed.reply {
                // It has set itself anew, or cancelled itself.
                Ok(reply) if reply.is_yes() && own => return Ok(()),
                Ok(reply) if reply.is_yes() => next(),
                _ => Some(timer.failed_before(next)),
            };
            match left {
                Some(left) => transaction.set(key.clone(), left.to_value()),
                None => transaction.delete(key.clone()),
            }
            Ok(())
        };
        let tracer = self.dispatcher.broadcast.tracer();
        let span = Span::of_timer(tracer, plugin.name(), &firing);
        let perform = {
            let broadcast = self.dispatcher.broadcast.within(&span).into_owned();
            move |completed: &mut Completed, _: bool| {
                let effects = std::mem::take(&mut completed.recorded.effects);
                if completed.reply.as_ref().is_ok_and(Reply::is_yes) {
                    effect::commit(effects, None, &broadcast, || {});
                }
                completed.lease = None;
            }
        };
        let job = || Job::Timer(firing.clone());
        let store = self.dispatcher.store.opened().ok_or(UNSTORED)?;
        let about = Some(About::new(store, key.clone()));
        let completed = self
            .dispatcher
            .transact(plugin, job, about, amend, perform, &span)
            .await;
        let name = &*firing.name;
        let (attempt, is_last) = (firing.attempt, timer.failed().given_up);
        match completed.reply {
            Ok(Reply::Timer(Ok(()))) => return Ok(()),
            Ok(Reply::Timer(Err(rejection))) => {
                let (code, words) = (
                    &rejection.code,
                    shortened(&rejection.message, MAX_WORDS_CHARS),
                );
                span.is_refused(code);
                tracing::warn!(plugin = &**plugin.name(), timer = name, attempt, %code, "a timer was not handled: {words}");
            }
            Ok(_) => unreachable!("a timer's call ends with a timer's reply"),
            Err(CallError::Superseded) => return Ok(()),
            Err(CallError::Conflict) if completed.recorded.acted => {
                tracing::warn!(
                    plugin = &**plugin.name(),
                    timer = name,
                    attempt,
                    "a timer was not handled: what it had read changed, and it had sent a request"
                );
                self.write_down(key, &timer, timer.failed_before(next))
                    .await?;
            }
            Err(error @ (CallError::Store(_) | CallError::Overdue | CallError::Conflict)) => {
                tracing::debug!(plugin = &**plugin.name(), timer = name, "{error}");
                return Err(UNSTORED);
            }
            Err(error) => {
                span.has_failed(error.reason());
                let during = During::without_connection(CallKind::Timer, name, None);
                let during = during.within(&span);
                failure::report(plugin, &during, &error, completed.written.as_deref());
                self.write_down(key, &timer, timer.failed_before(next))
                    .await?;
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

impl Due {
    /// Stores what is left of a timer that failed, where its call's commit was refused and has not done so.
    async fn write_down(&self, key: &Key, timer: &Timer, failed: Timer) -> Result<(), u64> {
        let stored = match self.replace(key, timer, &failed).await {
            // What is as long as before fits into a bucket that is full.
            Err(CommitError::OverQuota { .. }) => {
                let since = timer.since;
                self.replace(key, timer, &Timer { since, ..failed }).await
            }
            stored => stored,
        };
        stored.map_err(|_| UNSTORED)
    }

    /// Stores what is left of a timer, if that is as it was.
    async fn replace(&self, key: &Key, timer: &Timer, left: &Timer) -> Result<(), CommitError> {
        let Some(store) = self.dispatcher.store.opened() else {
            return Err(CommitError::Unavailable("it is not open".into()));
        };
        let mut transaction = Transaction::new(store.clone());
        if transaction.get(key).await? != Some(timer.to_value()) {
            return Ok(());
        }
        transaction.set(key.clone(), left.to_value());
        store.commit_alone(transaction).await
    }
}

/// When a timer is tried next; none if it is not.
fn waited_for(timer: &Timer) -> Option<u64> {
    (!timer.given_up).then_some(timer.at)
}

async fn stored(store: &Open, key: &Key) -> Result<Option<Timer>, CommitError> {
    read(&mut Transaction::new(store.clone()), key).await
}

async fn read(transaction: &mut Transaction, key: &Key) -> Result<Option<Timer>, CommitError> {
    let value = transaction.get(key).await?;
    Ok(value.and_then(|value| Timer::of_value(&value).ok()))
}
