//! Threads of a test that go on one at a time, in an order that the test chooses: at each lock of
//! [`ordered_lock`](crate::ordered_lock) that one of them takes, another may go on first. What stands
//! between two locks is seen in every order that matters, and an order that failed can be run again.

use std::{
    cell::RefCell,
    collections::VecDeque,
    panic::resume_unwind,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Nobody needs so many turns but who waits for what never comes.
const MOST_TURNS: usize = 20_000;

thread_local! {
    static ME: RefCell<Option<Me>> = const { RefCell::new(None) };
}

/// One of the threads.
#[derive(Clone)]
struct Me {
    number: usize,
    stage: Arc<Stage>,
}

/// What the threads share.
struct Stage {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Who goes on.
    turn: usize,
    /// Those that have not ended.
    alive: Vec<usize>,
    /// Who goes on next, among them; each in its turn when there are no more.
    choices: VecDeque<u8>,
    turns: usize,
}

/// Runs threads to their ends, in an order by these choices. Panics as they do.
pub(crate) fn run<'a>(choices: &[u8], threads: Vec<Box<dyn FnOnce() + Send + 'a>>) {
    let mut state = State {
        turn: 0,
        alive: (0..threads.len()).collect(),
        choices: choices.iter().copied().collect(),
        turns: 0,
    };
    state.choose();
    let stage = Arc::new(Stage {
        state: Mutex::new(state),
        changed: Condvar::new(),
    });
    thread::scope(|scope| {
        let begin = |(number, run): (usize, Box<dyn FnOnce() + Send + 'a>)| {
            let stage = stage.clone();
            scope.spawn(move || {
                let me = Me { number, stage };
                ME.set(Some(me.clone()));
                let _end = End(&me);
                me.wait();
                run();
            })
        };
        let handles: Vec<_> = threads.into_iter().enumerate().map(begin).collect();
        for handle in handles {
            if let Err(panic) = handle.join() {
                resume_unwind(panic);
            }
        }
    });
}

/// Another one may go on here, where there are others.
pub(crate) fn point() {
    if let Some(me) = ME.with_borrow(Clone::clone) {
        me.stage.lock().choose();
        me.stage.changed.notify_all();
        me.wait();
    }
}

/// Takes a lock where it is free. Whoever is one of these threads waits for it, while others go on.
pub(crate) fn wait_for<T>(try_to_take: impl Fn() -> Option<T>) -> Option<T> {
    if ME.with_borrow(Option::is_none) {
        return try_to_take();
    }
    loop {
        point();
        let taken = try_to_take();
        if taken.is_some() {
            return taken;
        }
    }
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn choose(&mut self) {
        self.turns += 1;
        assert!(self.turns < MOST_TURNS, "somebody waits for ever");
        let later = self.alive.iter().find(|number| **number > self.turn);
        let next = match self.choices.pop_front() {
            Some(choice) => self.alive.get(choice as usize % self.alive.len().max(1)),
            None => later.or(self.alive.first()),
        };
        self.turn = next.copied().unwrap_or(self.turn);
    }
}

impl Me {
    fn wait(&self) {
        let mut state = self.stage.lock();
        while state.turn != self.number {
            let waited = self.stage.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Lets the others go on when a thread has ended, or panicked.
struct End<'a>(&'a Me);

impl Drop for End<'_> {
    fn drop(&mut self) {
        ME.set(None);
        let mut state = self.0.stage.lock();
        state.alive.retain(|number| *number != self.0.number);
        if !thread::panicking() {
            state.choose();
        } else {
            state.turn = state.alive.first().copied().unwrap_or(0);
        }
        self.0.stage.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;
    use crate::ordered_lock::{OrderedMutex, rank};

    type Lock<T> = OrderedMutex<{ rank::INBOX }, T>;

    /// In which order two threads wrote, each twice.
    fn order(choices: &[u8]) -> String {
        let written = Lock::<String>::default();
        let write = |letter| {
            let written = &written;
            Box::new(move || (0..2).for_each(|_| written.lock().push(letter))) as Box<_>
        };
        run(choices, vec![write('a'), write('b')]);
        written.lock().clone()
    }

    #[test]
    fn every_order_is_there_and_the_same_again() {
        let all: Vec<[u8; 6]> = (0..64_u8)
            .map(|bits| [0, 1, 2, 3, 4, 5].map(|bit| bits >> bit & 1))
            .collect();
        let orders: HashSet<_> = all.iter().map(|choices| order(choices)).collect();
        let expected = ["aabb", "abab", "abba", "baab", "baba", "bbaa"];
        assert_eq!(orders, expected.map(String::from).into());
        for choices in all {
            assert_eq!(order(&choices), order(&choices));
        }
    }

    #[test]
    fn who_waits_for_ever_is_found() {
        let lock = Lock::<()>::default();
        let held = lock.lock();
        let wait = || Box::new(|| drop(lock.lock())) as Box<dyn FnOnce() + Send>;
        let waited = catch_unwind(AssertUnwindSafe(|| run(&[], vec![wait(), wait()])));
        assert!(waited.is_err());
        drop(held);
    }
}
