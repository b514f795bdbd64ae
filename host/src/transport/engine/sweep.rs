//! One clock for all sessions: pings, time limits and pauses. A session has no timer of its own.

use std::{
    collections::VecDeque,
    sync::{
        Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep_until};

use super::session::Session;

/// The shortest and the longest tick.
const TICKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// So many ticks at least make up each of the times that are kept.
const TICKS_EACH: u32 = 20;

/// A wheel that is late by so many ticks, or by so much time, has stood still.
const STANDSTILL_TICKS: u32 = 5;
const STANDSTILL: Duration = Duration::from_millis(250);

/// What is due for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A ping.
    Ping,
    /// The answer to the ping that was sent at this tick.
    Pong(u32),
    /// Its first namespace.
    Join,
    /// The client has to have taken something.
    Write,
    /// The last packet has to have gone out.
    Close,
}

/// The most slots that a wheel has. What is due later than once around waits another round.
const MAX_SLOTS: usize = 1024;

/// What is due at the ticks of one slot.
type Slot = Vec<Entry>;

struct Entry {
    at: u32,
    session: Weak<Session>,
    due: Due,
}

/// A wheel with a slot for each tick.
pub struct Sweep {
    tick: Duration,
    now: AtomicU32,
    /// When the tick after this one comes.
    next: AtomicCell<Instant>,
    slots: Box<[Mutex<Slot>]>,
    /// How much is in the slots: without anything the wheel rests.
    waiting: AtomicUsize,
    started: Notify,
    pauses: Mutex<VecDeque<(Instant, Weak<Session>)>>,
    paused: Notify,
}

impl Sweep {
    /// A wheel for times that are among these.
    pub fn new(times: &[Duration]) -> Self {
        let shortest = times.iter().min().copied().unwrap_or(TICKS[1]);
        let longest = times.iter().max().copied().unwrap_or(TICKS[1]);
        let tick = (shortest / TICKS_EACH).clamp(TICKS[0], TICKS[1]);
        let slots = longest.as_nanos().div_ceil(tick.as_nanos()) + 2;
        let slots = slots.min(MAX_SLOTS as u128) as usize;
        Self {
            tick,
            now: AtomicU32::new(1),
            next: AtomicCell::new(Instant::now() + tick),
            slots: (0..slots).map(|_| Mutex::default()).collect(),
            waiting: AtomicUsize::new(0),
            started: Notify::new(),
            pauses: Mutex::default(),
            paused: Notify::new(),
        }
    }

    /// The number of the current tick, which is never 0.
    pub fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// Whether so much time has passed since a tick, up to a tick less. The wheel may be about to turn.
    pub fn has_passed(&self, tick: u32, time: Duration) -> bool {
        let about_to_pass = self.ticks_due(self.next.load(), Instant::now());
        let passed = self.now().wrapping_sub(tick).saturating_add(about_to_pass);
        passed >= self.ticks(time)
    }

    /// Has a session be looked at after some time, up to a tick sooner.
    pub fn schedule(&self, session: Weak<Session>, after: Duration, due: Due) {
        let at = self.now().wrapping_add(self.ticks(after));
        self.slot(at).lock().push(Entry { at, session, due });
        if self.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            self.started.notify_one();
        }
    }

    /// Has a session let out what it holds, in `pause`, which is always the same.
    pub fn pause(&self, session: Weak<Session>, pause: Duration) {
        let mut pauses = self.pauses.lock();
        pauses.push_back((Instant::now() + pause, session));
        if pauses.len() == 1 {
            self.paused.notify_one();
        }
    }

    /// Runs for as long as there are sessions to look after.
    pub async fn run(&self) {
        tokio::join!(self.turn(), self.end_pauses());
    }

    /// Turns the wheel, for ever.
    async fn turn(&self) {
        loop {
            if self.waiting.load(Ordering::Acquire) == 0 {
                self.started.notified().await;
                self.next.store(Instant::now() + self.tick);
            }
            let next = self.next.load();
            sleep_until(next.into()).await;
            let now = Instant::now();
            let due = self.ticks_due(next, now);
            let is_standstill = now.saturating_duration_since(next) > self.standstill();
            // Before the wheel turns: no tick counts twice.
            self.next.store(match is_standstill {
                true => now + self.tick,
                false => next + due * self.tick,
            });
            for entry in (0..due).flat_map(|_| self.advance()) {
                if let Some(session) = entry.session.upgrade() {
                    session.is_due(entry.due);
                }
            }
        }
    }

    /// How many ticks are due, if the next one was due at `next`. After a standstill that is one: clients
    /// get the time to be heard that they would have had.
    fn ticks_due(&self, next: Instant, now: Instant) -> u32 {
        match now.checked_duration_since(next) {
            None => 0,
            Some(late) if late > self.standstill() => 1,
            Some(late) => 1 + (late.as_nanos() / self.tick.as_nanos()) as u32,
        }
    }

    fn standstill(&self) -> Duration {
        STANDSTILL.min(STANDSTILL_TICKS * self.tick)
    }

    /// How many ticks make up some time.
    fn ticks(&self, time: Duration) -> u32 {
        let ticks = time.as_nanos() / self.tick.as_nanos();
        ticks.clamp(1, u32::MAX as u128 / 2) as u32
    }

    /// Ends the pauses, for ever.
    async fn end_pauses(&self) {
        loop {
            let first = self.pauses.lock().front().map(|(at, _)| *at);
            let Some(first) = first else {
                self.paused.notified().await;
                continue;
            };
            sleep_until(first.into()).await;
            let ended = self.pauses.lock().pop_front();
            if let Some(session) = ended.and_then(|(_, session)| session.upgrade()) {
                session.release();
            }
        }
    }

    /// Moves on by one tick; returns what is due.
    fn advance(&self) -> Slot {
        let mut now = self.now.load(Ordering::Relaxed).wrapping_add(1);
        if now == 0 {
            now = 1;
        }
        self.now.store(now, Ordering::Relaxed);
        let mut slot = self.slot(now).lock();
        let (due, later) = std::mem::take(&mut *slot)
            .into_iter()
            .partition::<Slot, _>(|entry| entry.at == now);
        *slot = later;
        self.waiting.fetch_sub(due.len(), Ordering::AcqRel);
        due
    }

    fn slot(&self, at: u32) -> &Mutex<Slot> {
        &self.slots[at as usize % self.slots.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scheduled_is_due_at_its_tick_and_once() {
        let second = Duration::from_secs(1);
        let sweep = Sweep::new(&[second, 45 * second]);
        assert_eq!(sweep.tick, second / 20);
        let later = 100 * second;
        for (after, due) in [
            (second, Due::Ping),
            (2 * second, Due::Join),
            (later, Due::Close),
        ] {
            sweep.schedule(Weak::new(), after, due);
        }
        let mut seen = Vec::new();
        for tick in 1..=20 * 200 {
            seen.extend(sweep.advance().into_iter().map(|entry| (tick, entry.due)));
        }
        let expected = [(20, Due::Ping), (40, Due::Join), (2000, Due::Close)];
        assert_eq!(seen, expected);
        assert_eq!(sweep.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_wheel_that_is_late_catches_up_and_one_that_stood_still_goes_on() {
        let ms = Duration::from_millis;
        for (tick, cases) in [
            // A tick, and by how much its wheel is late when so many are due.
            (
                ms(10),
                &[(0, 1), (9, 1), (10, 2), (50, 6), (51, 1), (5_000, 1)][..],
            ),
            (ms(1_000), &[(0, 1), (250, 1), (5_000, 1)]),
        ] {
            let sweep = Sweep::new(&[tick * TICKS_EACH]);
            let next = Instant::now();
            assert_eq!(sweep.ticks_due(next + ms(1), next), 0);
            for (late, due) in cases {
                assert_eq!(
                    sweep.ticks_due(next, next + ms(*late)),
                    *due,
                    "{tick:?} {late}"
                );
            }
        }
    }

    #[test]
    fn ticks_are_neither_too_short_nor_too_long() {
        for (times, tick) in [
            (&[Duration::from_millis(20)][..], 10),
            (&[Duration::from_millis(300), Duration::from_secs(9)], 15),
            (&[Duration::from_secs(3600)], 1000),
        ] {
            assert_eq!(Sweep::new(times).tick, Duration::from_millis(tick));
        }
    }
}
