//! Calls that run one after the other, by a key that they have in common.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// So many calls may wait for one key, and for all keys of a plugin together.
const MAX_WAITING: usize = 1_000;
const MAX_WAITING_OF_PLUGIN: usize = 20_000;

/// The plugin's name and the key.
type Name = (Arc<str>, Box<str>);

/// Who is at work for which key, and who waits. It outlives reloads.
#[derive(Default)]
pub(super) struct Serial(Mutex<Lanes>);

#[derive(Default)]
struct Lanes {
    waiting: HashMap<Name, VecDeque<oneshot::Sender<Turn>>>,
    by_plugin: HashMap<Arc<str>, usize>,
}

/// A call's turn. The next call gets its own when this is dropped.
pub(super) struct Turn {
    serial: Arc<Serial>,
    name: Name,
}

/// What becomes of a call with a key.
pub(super) enum Entered {
    /// It is its turn.
    Now(Turn),
    /// Its turn comes after those of others.
    Later(oneshot::Receiver<Turn>),
    /// Too many wait already.
    Full,
}

impl Serial {
    /// A call of a plugin comes, behind all that came before with this key.
    pub(super) fn enter(self: &Arc<Self>, plugin: &Arc<str>, key: Box<str>) -> Entered {
        let name = (plugin.clone(), key);
        let mut lanes = self.0.lock();
        let Lanes { waiting, by_plugin } = &mut *lanes;
        let Some(lane) = waiting.get_mut(&name) else {
            waiting.insert(name.clone(), VecDeque::new());
            return Entered::Now(Turn {
                serial: self.clone(),
                name,
            });
        };
        let of_plugin = by_plugin.entry(plugin.clone()).or_default();
        if lane.len() >= MAX_WAITING || *of_plugin >= MAX_WAITING_OF_PLUGIN {
            return Entered::Full;
        }
        *of_plugin += 1;
        let (turn, comes) = oneshot::channel();
        lane.push_back(turn);
        Entered::Later(comes)
    }

    /// The next one that still waits for a key, or nobody.
    fn next(&self, name: &Name) -> Option<oneshot::Sender<Turn>> {
        let mut lanes = self.0.lock();
        let Lanes { waiting, by_plugin } = &mut *lanes;
        let next = waiting.get_mut(name)?.pop_front();
        if next.is_none() {
            waiting.remove(name);
            return None;
        }
        if let Some(of_plugin) = by_plugin.get_mut(&name.0) {
            *of_plugin -= 1;
            if *of_plugin == 0 {
                by_plugin.remove(&name.0);
            }
        }
        next
    }
}

impl Turn {
    /// Whether it is the turn of calls with this key.
    pub(super) fn is_for(&self, key: &str) -> bool {
        *self.name.1 == *key
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(next) = self.serial.next(&self.name) {
            let turn = Self {
                serial: self.serial.clone(),
                name: self.name.clone(),
            };
            // Who is gone drops its turn, and so passes it on.
            drop(next.send(turn));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(serial: &Arc<Serial>, key: &str) -> Entered {
        serial.enter(&"plugin".into(), key.into())
    }

    #[test]
    fn turns_come_in_the_order_of_arrival_and_nothing_is_left() {
        let serial: Arc<Serial> = Arc::default();
        let Entered::Now(first) = enter(&serial, "a") else {
            panic!("nobody else is there");
        };
        let waiting: Vec<_> = (0..3).map(|_| enter(&serial, "a")).collect();
        assert!(matches!(enter(&serial, "b"), Entered::Now(_)));
        drop(first);
        let mut waiting = waiting.into_iter().map(|entered| match entered {
            Entered::Later(comes) => comes,
            _ => panic!("another one has its turn"),
        });
        let (mut second, third, mut fourth) = (
            waiting.next().unwrap(),
            waiting.next(),
            waiting.next().unwrap(),
        );
        let turn = second.try_recv().unwrap();
        assert!(fourth.try_recv().is_err());
        // The third is gone, and is passed over.
        drop(third);
        drop(turn);
        drop(fourth.try_recv().unwrap());
        let lanes = serial.0.lock();
        assert!(lanes.waiting.is_empty() && lanes.by_plugin.is_empty());
    }

    #[test]
    fn only_so_many_wait() {
        let serial: Arc<Serial> = Arc::default();
        let _first = enter(&serial, "a");
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| enter(&serial, "a")).collect();
        assert!(
            waiting
                .iter()
                .all(|entered| matches!(entered, Entered::Later(_)))
        );
        assert!(matches!(enter(&serial, "a"), Entered::Full));
    }
}
