//! Counts the time of guests, which is what interrupts them, and rests while none runs.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
    thread::{self, Thread},
    time::Duration,
};

/// After so many ticks without a call it rests. More than a call needs to be moved away, which
/// [`Ticker::hold`] covers from then on; so many more that a busy server never wakes it.
const IDLE_TICKS: u32 = 100;

/// A thread that ticks while guests run.
#[derive(Clone)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    /// A call has begun since the last tick.
    begun: AtomicBool,
    /// Calls that go on for longer.
    held: AtomicUsize,
    stopped: AtomicBool,
}

/// Keeps it ticking until it is dropped.
pub(super) struct Hold<'a>(&'a Ticker);

impl Ticker {
    /// Calls `tick` once in every `interval` while guests run.
    pub(super) fn start(
        interval: Duration,
        mut tick: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let shared: Arc<Shared> = Arc::default();
        let ticking = shared.clone();
        // Without it nothing would stop guests, so that it survives its own panics.
        let tick_on = move || {
            let mut thread = OwnThread { interval };
            while catch_unwind(AssertUnwindSafe(|| ticking.run(&mut thread, &mut tick))).is_err() {}
        };
        let handle = thread::Builder::new()
            .name("epoch-ticker".into())
            .spawn(tick_on)?;
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// A call begins: there will be more ticks than it may take before it yields. To be called
    /// when the time to which it may run has been set.
    pub(super) fn begin(&self) {
        if self.shared.begin() {
            self.thread.unpark();
        }
    }

    /// For what may take any number of ticks.
    pub(super) fn hold(&self) -> Hold<'_> {
        self.shared.held.fetch_add(1, Ordering::Relaxed);
        self.thread.unpark();
        Hold(self)
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.shared.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How the thread waits.
trait Wait {
    /// For whoever begins, who may have done so already.
    fn park(&mut self);
    /// For the next tick, not to be cut short by those who begin meanwhile.
    fn sleep(&mut self);
}

struct OwnThread {
    interval: Duration,
}

impl Wait for OwnThread {
    fn park(&mut self) {
        thread::park();
    }

    fn sleep(&mut self) {
        thread::sleep(self.interval);
    }
}

impl Shared {
    /// A call begins; whether the thread may have to be woken.
    fn begin(&self) -> bool {
        // The time to which it may run was read before; else it might have been before a rest that began since.
        fence(Ordering::Acquire);
        let is_first = !self.begun.load(Ordering::Relaxed);
        if is_first {
            self.begun.store(true, Ordering::Release);
        }
        is_first
    }

    fn run(&self, thread: &mut impl Wait, mut tick: impl FnMut()) {
        let mut idle = 0;
        while !self.stopped.load(Ordering::Relaxed) {
            if idle >= IDLE_TICKS {
                while self.rests() {
                    thread.park();
                }
            }
            thread.sleep();
            let begun = self.begun.swap(false, Ordering::AcqRel);
            fence(Ordering::Release);
            tick();
            let busy = begun || self.held.load(Ordering::Relaxed) > 0;
            idle = if busy { 0 } else { idle + 1 };
        }
    }

    fn rests(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
            && !self.begun.load(Ordering::Acquire)
            && self.held.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::interleave::{self, point};

    const TICK: Duration = Duration::from_micros(100);
    const PATIENCE: Duration = Duration::from_secs(10);

    struct Clock {
        ticker: Ticker,
        ticks: Arc<AtomicUsize>,
    }

    impl Clock {
        fn start() -> Self {
            Self::panicking_at(usize::MAX)
        }

        fn panicking_at(panics_at: usize) -> Self {
            let ticks: Arc<AtomicUsize> = Arc::default();
            let ticker = Ticker::start(TICK, {
                let ticks = ticks.clone();
                move || {
                    let before = ticks.fetch_add(1, Ordering::Relaxed);
                    assert!(before != panics_at, "it panics on purpose");
                }
            });
            let ticker = ticker.unwrap();
            Self { ticker, ticks }
        }

        fn ticks(&self) -> usize {
            self.ticks.load(Ordering::Relaxed)
        }

        fn wait_for(&self, what: &str, condition: impl Fn(usize) -> bool) {
            let since = Instant::now();
            while !condition(self.ticks()) {
                assert!(
                    since.elapsed() < PATIENCE,
                    "after {PATIENCE:?} still not: {what}"
                );
                thread::sleep(TICK);
            }
        }

        fn wait_for_rest(&self) {
            self.wait_for("it rests", |before| {
                thread::sleep(TICK * IDLE_TICKS);
                self.ticks() == before
            });
        }
    }

    #[test]
    fn it_rests_without_calls_and_ticks_long_enough_for_each() {
        let clock = Clock::start();
        for _ in 0..3 {
            clock.wait_for_rest();
            let before = clock.ticks();
            clock.ticker.begin();
            let enough = before + IDLE_TICKS as usize;
            clock.wait_for("it ticks on", |ticks| ticks >= enough);
        }
    }

    #[test]
    fn it_does_not_rest_while_it_is_held() {
        let clock = Clock::start();
        clock.wait_for_rest();
        let before = clock.ticks();
        let hold = clock.ticker.hold();
        let enough = before + 3 * IDLE_TICKS as usize;
        clock.wait_for("it ticks on", |ticks| ticks >= enough);
        drop(hold);
        clock.wait_for_rest();
    }

    #[test]
    fn a_panic_does_not_stop_it() {
        let clock = Clock::panicking_at(3);
        let _hold = clock.ticker.hold();
        clock.wait_for("it ticks on", |ticks| ticks > 10);
    }

    #[test]
    fn calls_do_not_hurry_it() {
        let clock = Clock::start();
        let (before, since) = (clock.ticks(), Instant::now());
        while clock.ticks() < before + 100 {
            clock.ticker.begin();
        }
        assert!(since.elapsed() >= TICK * 98, "{:?}", since.elapsed());
    }

    /// The thread of a model, in which others go on while it waits.
    struct InTurns<'a> {
        is_unparked: &'a AtomicBool,
    }

    impl Wait for InTurns<'_> {
        fn park(&mut self) {
            point();
            while !self.is_unparked.swap(false, Ordering::Relaxed) {
                point();
            }
        }

        fn sleep(&mut self) {
            point();
        }
    }

    proptest! {
        #[test]
        fn it_ticks_long_enough_for_each_call_whoever_else_begins_or_rests(
            choices in vec(any::<u8>(), 0..1200),
            pauses in vec(0..250_usize, 4),
            holds in any::<bool>(),
        ) {
            let shared = Shared::default();
            let (is_unparked, ticks, callers) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(2));
            let ticked = || ticks.load(Ordering::Relaxed);
            let unpark = || is_unparked.store(true, Ordering::Relaxed);
            let call = |pauses: &[usize]| for pause in pauses {
                (0..*pause).for_each(|_| point());
                // As for a real call, whose time is set before it begins.
                let enough = ticked() + IDLE_TICKS as usize;
                if shared.begin() {
                    point();
                    unpark();
                }
                while ticked() < enough {
                    point();
                }
            };
            let end = || if callers.fetch_sub(1, Ordering::Relaxed) == 1 {
                shared.stopped.store(true, Ordering::Relaxed);
                point();
                unpark();
            };
            let (some, others) = pauses.split_at(2);
            interleave::run(&choices, vec![
                Box::new(|| shared.run(&mut InTurns { is_unparked: &is_unparked }, || {
                    point();
                    ticks.fetch_add(1, Ordering::Relaxed);
                })),
                Box::new(|| {
                    call(some);
                    end();
                }),
                Box::new(|| {
                    if holds {
                        shared.held.fetch_add(1, Ordering::Relaxed);
                        point();
                        unpark();
                        let enough = ticked() + 2 * IDLE_TICKS as usize;
                        while ticked() < enough {
                            point();
                        }
                        shared.held.fetch_sub(1, Ordering::Relaxed);
                    }
                    call(others);
                    end();
                }),
            ]);
        }
    }
}
