//! When which timer is due, and whose turn it is.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{Kind, timer::owner};
use crate::{clock::now, store::Key};

/// So long at most is waited at once: clocks of machines are put right.
const STEP: Duration = Duration::from_secs(1);

/// A clock that goes back by more than this has been put right, and what was waited for is not waited for
/// so much longer.
pub(super) const JUMP: Duration = Duration::from_secs(10);

/// So many timers of one plugin are called at once: each waits for an instance, as an event does.
const AT_ONCE: usize = 16;

/// And so many of them begin in a [`WINDOW`], however many are due: one that sets itself anew, due at once,
/// goes on without an end.
const IN_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_millis(10);

/// The timers that are waited for, by when they are tried next. What they are stands in the store.
#[derive(Default)]
pub(crate) struct Clock {
    waited: Mutex<Waited>,
    changed: Notify,
    went_back: Notify,
}

#[derive(Default)]
struct Waited {
    plugins: HashMap<Arc<str>, Queue>,
    at: HashMap<Key, u64>,
    /// What the machine's clock showed when it was looked at last, and when that was.
    seen: Option<(Instant, u64)>,
}

/// The timers of a plugin.
struct Queue {
    due: BTreeSet<(u64, Key)>,
    under_way: usize,
    /// When the last one began; who waits for longest comes first.
    began: Instant,
    /// When the current window began, and how many timers have begun in it.
    window: Instant,
    in_window: u32,
}

/// A timer that is due. It is under way until this is dropped.
pub(crate) struct DueTimer {
    clock: Arc<Clock>,
    /// Where it stands in the store.
    pub key: Key,
    /// Whether its plugin declared it.
    pub kind: Kind,
    /// Whose it is.
    pub plugin: Arc<str>,
}

impl Drop for DueTimer {
    fn drop(&mut self) {
        if let Some(queue) = self.clock.waited.lock().plugins.get_mut(&self.plugin) {
            queue.under_way -= 1;
        }
        self.clock.changed.notify_one();
    }
}

impl Clock {
    /// A timer is tried at this time, in milliseconds since 1970, and at no other; none: never. Keys that
    /// are no timers' are none of its concern.
    pub(crate) fn set(&self, key: &Key, at: Option<u64>) {
        let Some((_, plugin)) = owner(key) else {
            return;
        };
        self.waited.lock().set(plugin, key, at);
        self.changed.notify_one();
    }

    /// The same, if it is not waited for already.
    pub(crate) fn set_again(&self, due: &DueTimer, at: u64) {
        let mut waited = self.waited.lock();
        if !waited.at.contains_key(&due.key) {
            waited.set(&due.plugin, &due.key, Some(at));
        }
    }

    /// Waits for a timer that is due. It is waited for no more.
    pub(crate) async fn next(self: &Arc<Self>) -> DueTimer {
        loop {
            let wait = {
                let mut waited = self.waited.lock();
                if waited.look(now()) {
                    self.went_back.notify_one();
                }
                match waited.first() {
                    Some((plugin, Duration::ZERO)) => {
                        if let Some((key, kind)) = waited.begin(&plugin) {
                            let clock = self.clone();
                            return DueTimer {
                                clock,
                                key,
                                kind,
                                plugin,
                            };
                        }
                        continue;
                    }
                    Some((_, wait)) => Some(wait.min(STEP)),
                    None => None,
                }
            };
            match wait {
                Some(wait) => tokio::select! {
                    () = sleep(wait) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// The clock shows another time than it would by itself.
    pub(crate) fn has_moved(&self) {
        self.waited.lock().seen = None;
        self.changed.notify_one();
    }

    /// Waits until the machine's clock has gone back.
    pub(crate) async fn went_back(&self) {
        self.went_back.notified().await;
    }
}

impl Waited {
    fn set(&mut self, plugin: &str, key: &Key, at: Option<u64>) {
        let former = match at {
            Some(at) => self.at.insert(key.clone(), at),
            None => self.at.remove(key),
        };
        if !self.plugins.contains_key(plugin) {
            self.plugins.insert(plugin.into(), Queue::new());
        }
        let Some(queue) = self.plugins.get_mut(plugin) else {
            return;
        };
        if let Some(former) = former {
            queue.due.remove(&(former, key.clone()));
        }
        if let Some(at) = at {
            queue.due.insert((at, key.clone()));
        }
    }

    /// Looks at the machine's clock. Whether it has gone back since.
    fn look(&mut self, now: u64) -> bool {
        let seen = self.seen.replace((Instant::now(), now));
        let expected = seen.map(|(at, then)| then + at.elapsed().as_millis() as u64);
        expected.is_some_and(|expected| expected > now + JUMP.as_millis() as u64)
    }

    /// The plugin that has a timer called next, and how long that is to be waited for.
    fn first(&self) -> Option<(Arc<str>, Duration)> {
        let now = now();
        let waits = self.plugins.iter().filter_map(|(plugin, queue)| {
            let wait = queue.wait(now)?;
            Some((wait, queue.began, plugin))
        });
        let (wait, _, plugin) = waits.min()?;
        Some((plugin.clone(), wait))
    }

    fn begin(&mut self, plugin: &str) -> Option<(Key, Kind)> {
        let queue = self.plugins.get_mut(plugin)?;
        let (_, key) = queue.due.pop_first()?;
        queue.began();
        self.at.remove(&key);
        let (kind, _) = owner(&key)?;
        Some((key, kind))
    }
}

impl Queue {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            due: BTreeSet::new(),
            under_way: 0,
            began: now,
            window: now,
            in_window: 0,
        }
    }

    /// How long its next timer waits; none if there is none, or others have to end first.
    fn wait(&self, now: u64) -> Option<Duration> {
        let (at, _) = self.due.first()?;
        if self.under_way >= AT_ONCE {
            return None;
        }
        let window = match self.in_window < IN_WINDOW {
            true => Duration::ZERO,
            false => WINDOW.saturating_sub(self.window.elapsed()),
        };
        Some(window.max(Duration::from_millis(at.saturating_sub(now))))
    }

    fn began(&mut self) {
        self.under_way += 1;
        self.began = Instant::now();
        if self.window.elapsed() >= WINDOW {
            self.window = self.began;
            self.in_window = 0;
        }
        self.in_window += 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::timers::bucket;

    fn key_of(plugin: &str, name: &str) -> Key {
        Key::new(&bucket(Kind::Set, plugin), name).unwrap()
    }

    fn key(name: &str) -> Key {
        key_of("p", name)
    }

    fn next(clock: &Arc<Clock>) -> Option<DueTimer> {
        clock.next().now_or_never()
    }

    #[tokio::test]
    async fn timers_come_in_the_order_in_which_they_are_due_and_each_once() {
        let clock: Arc<Clock> = Arc::default();
        let now = now();
        for (name, at) in [
            ("b", now - 1),
            ("a", now - 2),
            ("later", now + 60_000),
            ("c", now),
        ] {
            clock.set(&key(name), Some(at));
        }
        clock.set(&key("b"), None);
        clock.set(&key("c"), Some(now - 3));
        assert_eq!(clock.next().await.key, key("c"));
        assert_eq!(clock.next().await.key, key("a"));
        assert!(next(&clock).is_none());
    }

    #[tokio::test]
    async fn one_that_is_set_while_another_is_waited_for_comes_first() {
        let clock: Arc<Clock> = Arc::default();
        clock.set(&key("later"), Some(now() + 60_000));
        let mut next = Box::pin(clock.next());
        assert!(futures_util::poll!(&mut next).is_pending());
        clock.set(&key("soon"), Some(now()));
        assert_eq!(next.await.key, key("soon"));
    }

    #[tokio::test]
    async fn a_plugin_with_thousands_of_timers_does_not_hold_up_another_one() {
        let clock: Arc<Clock> = Arc::default();
        for number in 0..5_000 {
            clock.set(&key_of("many", &format!("t{number}")), Some(1));
        }
        clock.set(&key_of("few", "t"), Some(now()));
        let first = [clock.next().await, clock.next().await];
        assert!(first.iter().any(|due| &*due.plugin == "few"));
        let mut under_way: Vec<_> = first.into_iter().collect();
        while under_way.len() < AT_ONCE + 1 {
            under_way.push(clock.next().await);
        }
        assert!(next(&clock).is_none(), "so many are under way");
        under_way.retain(|due| &*due.plugin == "few");
        assert_eq!(&*clock.next().await.plugin, "many");
    }

    #[tokio::test]
    async fn a_timer_that_is_due_at_once_again_and_again_is_called_so_often() {
        let clock: Arc<Clock> = Arc::default();
        let began = Instant::now();
        for _ in 0..300 {
            clock.set(&key("t"), Some(1));
            drop(clock.next().await);
        }
        let expected = WINDOW * (300 / IN_WINDOW - 1);
        assert!(began.elapsed() >= expected, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_is_set_while_it_is_under_way_stands() {
        let clock: Arc<Clock> = Arc::default();
        clock.set(&key("t"), Some(1));
        let due = clock.next().await;
        clock.set(&key("t"), Some(2));
        clock.set_again(&due, now() + 60_000);
        drop(due);
        assert!(next(&clock).is_some());
    }

    #[test]
    fn a_clock_that_is_put_back_is_noticed_and_one_that_is_put_right_by_a_little_is_not() {
        let mut waited = Waited::default();
        let day = 86_400_000;
        for (shows, is_back) in [
            (10 * day, false),
            (10 * day - 2_000, false),
            (11 * day, false),
            (10 * day, true),
            (10 * day, false),
        ] {
            assert_eq!(waited.look(shows), is_back, "{shows}");
        }
    }
}
