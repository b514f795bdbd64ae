//! When which timer is due.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use crate::store::{Key, now};

/// So long at most is waited at once: clocks of machines are put right.
const STEP: Duration = Duration::from_secs(1);

/// The timers that are waited for, by when they are tried next. What they are stands in the store.
#[derive(Default)]
pub(crate) struct Clock {
    waited: Mutex<Waited>,
    changed: Notify,
}

#[derive(Default)]
struct Waited {
    due: BTreeSet<(u64, Key)>,
    at: HashMap<Key, u64>,
}

impl Clock {
    /// A timer is tried at this time, in milliseconds since 1970, and at no other; none: never.
    pub(crate) fn set(&self, key: Key, at: Option<u64>) {
        let mut waited = self.waited.lock();
        let former = match at {
            Some(at) => waited.at.insert(key.clone(), at),
            None => waited.at.remove(&key),
        };
        if let Some(former) = former {
            waited.due.remove(&(former, key.clone()));
        }
        let Some(at) = at else { return };
        let is_next = waited.due.first().is_none_or(|(next, _)| at < *next);
        waited.due.insert((at, key));
        if is_next {
            self.changed.notify_one();
        }
    }

    /// Waits for a timer that is due. It is waited for no more.
    pub(crate) async fn next(&self) -> Key {
        loop {
            let wait = {
                let mut waited = self.waited.lock();
                let now = now();
                match waited.due.first() {
                    Some((at, _)) if *at <= now => {
                        if let Some((_, key)) = waited.due.pop_first() {
                            waited.at.remove(&key);
                            return key;
                        }
                        continue;
                    }
                    Some((at, _)) => Some(Duration::from_millis(at - now).min(STEP)),
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
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::Bucket;

    fn key(name: &str) -> Key {
        Key::new(&Bucket::of_plugin("p"), name).unwrap()
    }

    #[tokio::test]
    async fn timers_come_in_the_order_in_which_they_are_due_and_each_once() {
        let clock = Clock::default();
        let now = now();
        for (name, at) in [
            ("b", now - 1),
            ("a", now - 2),
            ("later", now + 60_000),
            ("c", now),
        ] {
            clock.set(key(name), Some(at));
        }
        clock.set(key("b"), None);
        clock.set(key("c"), Some(now - 3));
        assert_eq!(clock.next().await, key("c"));
        assert_eq!(clock.next().await, key("a"));
        assert!(clock.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_that_is_set_while_another_is_waited_for_comes_first() {
        let clock = Clock::default();
        clock.set(key("later"), Some(now() + 60_000));
        let mut next = Box::pin(clock.next());
        assert!(futures_util::poll!(&mut next).is_pending());
        clock.set(key("soon"), Some(now()));
        assert_eq!(next.await, key("soon"));
    }
}
