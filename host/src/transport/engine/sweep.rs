//! One clock for all sessions: pings, time limits and pauses. A session has no timer of its own.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::panicking,
    time::{Duration, Instant},
};

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now, time::sleep_until};

use super::session::{EndReason, Session};

/// The shortest and the longest tick.
const TICKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

/// So many ticks at least make up each of the times that are kept.
const TICKS_EACH: u32 = 200;

/// A wheel that is late by so many ticks has stood still, but not before the first of these times, and
/// by the second in any case. Clients have the time to be heard that they would have had.
const STANDSTILL_TICKS: u32 = 5;
const STANDSTILL: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// A wheel catches up with so much time at once: nobody waits longer for anything.
const CATCH_UP: Duration = Duration::from_secs(600);

/// So many sessions are dealt with before others get their turn.
const SESSIONS_IN_A_ROW: usize = 64;

/// What is due for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A ping.
    Ping,
    /// The answer to the ping that was sent at this time, as [`Sweep::now`] has it.
    Pong(u32),
    /// Its first namespace.
    Join,
    /// The client has to have taken something.
    Write,
    /// The last packet has to have gone out.
    Close,
}

impl Due {
    /// Whether a client has this long for something: not counted is what the server itself lost. Clients do
    /// count it while they wait for a ping.
    fn is_limit(self) -> bool {
        self != Self::Ping
    }
}

/// The most slots that a wheel has. What is due later than once around waits another round.
const MAX_SLOTS: usize = 1024;

/// What is due at the ticks of one slot.
type Slot = Vec<Entry>;

struct Entry {
    at: u32,
    /// For how many ticks the wheel had stood still when it was scheduled.
    stood_still: u32,
    session: Weak<Session>,
    due: Due,
}

/// How far a wheel has turned.
#[derive(Clone, Copy)]
struct Position {
    /// The number of the current tick, which is never 0.
    tick: u32,
    /// For how many ticks it has stood still so far.
    stood_still: u32,
    /// When the next one comes; none while the wheel rests.
    next: Option<Instant>,
}

/// A wheel with a slot for each tick.
pub struct Sweep {
    tick: Duration,
    /// Changed by the wheel alone, all at once: who schedules something counts from both.
    position: AtomicCell<Position>,
    slots: Box<[Mutex<Slot>]>,
    /// What is due and has not been dealt with.
    due: Mutex<VecDeque<Entry>>,
    /// How much is in the slots: without anything the wheel rests.
    waiting: AtomicUsize,
    started: Notify,
    pauses: Mutex<VecDeque<(Instant, Weak<Session>)>>,
    paused: Notify,
}

impl Position {
    /// The tick that comes after so many.
    fn after(self, ticks: u32) -> u32 {
        let (tick, has_wrapped) = self.tick.overflowing_add(ticks);
        // There is no tick 0.
        tick + u32::from(has_wrapped)
    }
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
            position: AtomicCell::new(Position {
                tick: 1,
                stood_still: 0,
                next: None,
            }),
            slots: (0..slots).map(|_| Mutex::default()).collect(),
            due: Mutex::default(),
            waiting: AtomicUsize::new(0),
            started: Notify::new(),
            pauses: Mutex::default(),
            paused: Notify::new(),
        }
    }

    /// The number of ticks that clients have had so far, which is never 0, also where the wheel has not come to
    /// the last of them yet.
    pub fn now(&self) -> u32 {
        let position = self.position.load();
        let now = Instant::now();
        let due = self.ticks_due(position.next, now);
        let lost = position.next.map_or(0, |next| self.ticks_lost(next, now));
        let stood_still = position.stood_still.wrapping_add(lost);
        position.after(due).wrapping_sub(stood_still).max(1)
    }

    /// Whether clients have had so much time since then, for certain.
    pub fn has_passed(&self, since: u32, time: Duration) -> bool {
        let passed = self.now().wrapping_sub(since).cast_signed();
        u32::try_from(passed).is_ok_and(|passed| passed >= self.ticks(time))
    }

    /// Has a session be looked at after some time, never sooner and up to two ticks later. A limit is later by what the
    /// server lost meanwhile.
    pub fn schedule(&self, session: Weak<Session>, after: Duration, due: Due) {
        self.enter(session, due, |position| {
            self.tick_after(position, after, Instant::now())
        });
    }

    fn enter(&self, session: Weak<Session>, due: Due, at: impl Fn(Position) -> u32) {
        loop {
            let position = self.position.load();
            let at = at(position);
            let mut slot = self.slot(at).lock();
            // Else the wheel has turned meanwhile, and has perhaps been at this slot already.
            if self.position.load().tick == position.tick {
                slot.push(Entry {
                    at,
                    stood_still: position.stood_still,
                    session,
                    due,
                });
                break;
            }
        }
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
            // Also what is left of a turn that panicked.
            self.deal_with_due().await;
            if self.waiting.load(Ordering::Acquire) == 0 {
                self.set_next(None);
                self.started.notified().await;
            }
            let next = self.position.load().next;
            let next = next.unwrap_or_else(|| Instant::now() + self.tick);
            self.set_next(Some(next));
            sleep_until(next.into()).await;
            self.catch_up(next, Instant::now());
        }
    }

    /// Moves on by what is due, of which the first was at `next`.
    fn catch_up(&self, next: Instant, now: Instant) {
        let position = self.position.load();
        let stood_still = position
            .stood_still
            .wrapping_add(self.ticks_lost(next, now));
        self.position.store(Position {
            stood_still,
            ..position
        });
        let next = next.max(now.checked_sub(CATCH_UP).unwrap_or(next));
        for tick in 1..=self.ticks_due(Some(next), now) {
            self.advance(next + tick * self.tick);
        }
    }

    async fn deal_with_due(&self) {
        let mut sessions = 0;
        loop {
            let next = self.due.lock().pop_front();
            let Some(entry) = next else {
                return;
            };
            if let Some(session) = entry.session.upgrade() {
                let panicking = EndIfPanicking(&session);
                session.is_due(entry.due);
                drop(panicking);
            }
            sessions += 1;
            if sessions % SESSIONS_IN_A_ROW == 0 {
                yield_now().await;
            }
        }
    }

    /// How many ticks are due, if the next one was due at `next`.
    fn ticks_due(&self, next: Option<Instant>, now: Instant) -> u32 {
        match next.and_then(|next| now.checked_duration_since(next)) {
            None => 0,
            Some(late) => 1 + (late.min(CATCH_UP).as_nanos() / self.tick.as_nanos()) as u32,
        }
    }

    /// How many of them the wheel has stood still for.
    fn ticks_lost(&self, next: Instant, now: Instant) -> u32 {
        match now.saturating_duration_since(next) > self.standstill() {
            true => self.ticks_due(Some(next), now) - 1,
            false => 0,
        }
    }

    fn standstill(&self) -> Duration {
        (STANDSTILL_TICKS * self.tick).clamp(STANDSTILL[0], STANDSTILL[1])
    }

    /// After how many ticks some time has passed for certain: the current one has begun already.
    fn ticks(&self, time: Duration) -> u32 {
        let ticks = time.as_nanos().div_ceil(self.tick.as_nanos()) + 1;
        ticks.min(u32::MAX as u128 / 2) as u32
    }

    /// The first tick by which so much time will have passed for certain.
    fn tick_after(&self, position: Position, time: Duration, now: Instant) -> u32 {
        position.after(self.ticks_due(position.next, now) + self.ticks(time))
    }

    /// Notes when the next tick comes.
    fn set_next(&self, next: Option<Instant>) {
        let position = self.position.load();
        self.position.store(Position { next, ..position });
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

    /// Moves on by one tick. The one after it comes at `next`.
    fn advance(&self, next: Instant) {
        let position = self.position.load();
        let (now, stood_still) = (position.after(1), position.stood_still);
        self.position.store(Position {
            tick: now,
            next: Some(next),
            ..position
        });
        let mut slot = self.slot(now).lock();
        let (due, later) = std::mem::take(&mut *slot)
            .into_iter()
            .partition::<Slot, _>(|entry| entry.at == now);
        *slot = later;
        drop(slot);
        let count = due.len();
        let lost = |entry: &Entry| stood_still.wrapping_sub(entry.stood_still);
        let (put_off, due) = due
            .into_iter()
            .partition::<Slot, _>(|entry| entry.due.is_limit() && lost(entry) > 0);
        for entry in put_off {
            let lost = lost(&entry);
            self.enter(entry.session, entry.due, |position| position.after(lost));
        }
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        self.due.lock().extend(due);
    }

    fn slot(&self, at: u32) -> &Mutex<Slot> {
        &self.slots[at as usize % self.slots.len()]
    }
}

/// Ends a session whose turn panics: nobody comes back to it.
struct EndIfPanicking<'a>(&'a Arc<Session>);

impl Drop for EndIfPanicking<'_> {
    fn drop(&mut self) {
        if panicking() {
            self.0.end(EndReason::TransportClose);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        net::{IpAddr, Ipv4Addr},
        panic::AssertUnwindSafe,
        thread,
    };

    use bytes::Bytes;
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio::{
        net::{TcpListener, TcpStream},
        time::sleep,
    };

    use super::{
        super::{
            session::{Malformed, Receiver},
            sessions::{Policy, Sessions},
        },
        *,
    };
    use crate::{config, transport::net::Wire};

    /// A client, and the server's side.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    /// What is due at the next tick.
    fn advance(sweep: &Sweep) -> Vec<Due> {
        sweep.advance(Instant::now() + sweep.tick);
        let mut due = sweep.due.lock();
        due.drain(..).map(|entry| entry.due).collect()
    }

    #[test]
    fn what_is_scheduled_is_due_at_its_tick_and_once() {
        let second = Duration::from_secs(1);
        let sweep = Sweep::new(&[second, 45 * second]);
        assert_eq!(sweep.tick, second / 200);
        let later = 100 * second;
        for (after, due) in [
            (second, Due::Ping),
            (2 * second, Due::Join),
            (later, Due::Close),
        ] {
            sweep.schedule(Weak::new(), after, due);
        }
        let mut seen = Vec::new();
        for tick in 1..=200 * 200 {
            seen.extend(advance(&sweep).into_iter().map(|due| (tick, due)));
        }
        // The first of its ticks may be about to end.
        let expected = [(201, Due::Ping), (401, Due::Join), (20_001, Due::Close)];
        assert_eq!(seen, expected);
        assert_eq!(sweep.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_is_scheduled_for_a_tick_that_is_over() {
        const ENTRIES: usize = 200_000;
        let sweep = Sweep::new(&[Duration::from_secs(1)]);
        let tick = sweep.tick;
        thread::scope(|scope| {
            let schedule = || {
                for _ in 0..ENTRIES {
                    sweep.schedule(Weak::new(), tick, Due::Close);
                }
            };
            let scheduling = [scope.spawn(schedule), scope.spawn(schedule)];
            let mut due = 0;
            while !scheduling.iter().all(|thread| thread.is_finished()) {
                due += advance(&sweep).len();
            }
            while sweep.waiting.load(Ordering::Relaxed) > 0 {
                due += advance(&sweep).len();
            }
            assert_eq!(due, 2 * ENTRIES);
        });
    }

    struct Panics;

    impl Receiver for Panics {
        fn id(&self) -> &str {
            ""
        }

        fn event(&self, _: &str, _: Vec<Bytes>, _: Option<i64>) -> Result<(), Malformed> {
            Ok(())
        }

        fn oversized(&self, _: &str, _: Option<i64>) -> Result<(), Malformed> {
            Ok(())
        }

        fn acked(&self, _: Option<i64>, _: &str, _: Vec<Bytes>) -> Result<(), Malformed> {
            Ok(())
        }

        fn ended(&self, _: EndReason) {
            panic!("on purpose");
        }
    }

    #[tokio::test]
    async fn a_panic_over_one_session_costs_no_other_its_turn() {
        let socket = config::Socket {
            ping_timeout: Duration::from_millis(200),
            ..Default::default()
        };
        let sessions = Arc::new(Sessions::new(Policy::new(&socket)));
        let begin = || {
            let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
            sessions.begin(address, None).unwrap()
        };
        let [bad, good] = [begin(), begin()];
        // There is no door to ask, but it has been noted that the client does.
        bad.receive("40").unwrap_err();
        let receiver: Arc<dyn Receiver> = Arc::new(Panics);
        assert!(bad.let_in("/", &receiver));
        let sweep = &sessions.sweep;
        for session in [&bad, &good] {
            sweep.schedule(Arc::downgrade(session), sweep.tick, Due::Close);
        }
        let turn = AssertUnwindSafe(sweep.turn());
        turn.catch_unwind().await.unwrap_err();
        assert!(bad.has_ended() && !good.has_ended());
        let ended = async {
            while !good.has_ended() {
                sleep(sweep.tick).await;
            }
        };
        tokio::select! {
            () = sweep.turn() => unreachable!("it turns for ever"),
            () = ended => {}
        }
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test]
    async fn a_client_that_takes_no_more_again_and_again_is_watched_once() {
        let socket = config::Socket::default();
        let sessions = Arc::new(Sessions::new(Policy::new(&socket)));
        let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
        let session = sessions.begin(address, None).unwrap();
        let (client, tcp) = connected().await;
        let wire = session.open_websocket(Wire::Plain(tcp), false);
        let waiting = || sessions.sweep.waiting.load(Ordering::Relaxed);
        let before = waiting();
        let packet = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..10 {
            while !session.outbox.is_blocked() {
                session.outbox.push(&packet, false);
                session.flush();
            }
            assert_eq!(waiting(), before + 1);
            let mut taken = vec![0; 1 << 16];
            while poll_fn(|cx| wire.poll_write_ready(cx))
                .now_or_never()
                .is_none()
            {
                client.try_read(&mut taken).ok();
                yield_now().await;
            }
            session.outbox.unblock();
        }
        session.is_due(Due::Write);
        session.is_due(Due::Write);
        assert!(!session.has_ended());
        while !session.outbox.is_blocked() {
            session.outbox.push(&packet, false);
            session.flush();
        }
        assert_eq!(waiting(), before + 2, "the next time it is watched anew");
    }

    #[test]
    fn a_wheel_that_is_late_catches_up() {
        let ms = Duration::from_millis;
        for (tick, cases) in [
            // A tick, by how much its wheel is late, how many are due, and how many of them it stood still for.
            (
                ms(10),
                &[(0, 1, 0), (9, 1, 0), (10, 2, 0), (50, 6, 0), (51, 6, 5)][..],
            ),
            (ms(1), &[(0, 1, 0), (9, 10, 0), (50, 51, 0), (51, 52, 51)]),
            (
                ms(1_000),
                &[
                    (0, 1, 0),
                    (250, 1, 0),
                    (5_000, 6, 5),
                    (86_400_000, 601, 600),
                ],
            ),
        ] {
            let sweep = Sweep::new(&[tick * TICKS_EACH]);
            let next = Instant::now();
            assert_eq!(sweep.ticks_due(Some(next + ms(1)), next), 0);
            assert_eq!(sweep.ticks_due(None, next), 0, "it rests");
            for (late, due, lost) in cases {
                let now = next + ms(*late);
                let ticks = (
                    sweep.ticks_due(Some(next), now),
                    sweep.ticks_lost(next, now),
                );
                assert_eq!(ticks, (*due, *lost), "{tick:?} {late}");
            }
        }
    }

    #[test]
    fn after_a_standstill_pings_are_due_and_clients_have_the_time_that_they_would_have_had() {
        let second = Duration::from_secs(1);
        let sweep = Sweep::new(&[second]);
        sweep.schedule(Weak::new(), second, Due::Ping);
        sweep.schedule(Weak::new(), second, Due::Pong(1));
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen.extend(advance(&sweep));
        }
        let before = sweep.position.load();
        let next = Instant::now();
        sweep.catch_up(next, next + second);
        let lost = sweep.position.load().stood_still - before.stood_still;
        assert_eq!(lost, 200);
        seen.extend(sweep.due.lock().drain(..).map(|entry| entry.due));
        assert_eq!(seen, [Due::Ping]);
        let mut ticks = 0;
        while seen.len() < 2 {
            seen.extend(advance(&sweep));
            ticks += 1;
        }
        assert_eq!((&seen[1..], ticks), (&[Due::Pong(1)][..], 100));
        assert_eq!(sweep.waiting.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_due_before_its_time_and_nothing_is_late_by_more_than_two_ticks(
            tick in 1..1_000_u64,
            time in 0..100_000_u64,
            // How long ago the next tick was to come.
            late in prop::option::of(-1_000..1_000_i64),
            at in prop::sample::select(&[1, 2, 1_000, u32::MAX - 1, u32::MAX][..]),
        ) {
            let ms = Duration::from_millis;
            let sweep = Sweep::new(&[ms(tick) * TICKS_EACH]);
            let (tick, time) = (sweep.tick, ms(time));
            let now = Instant::now() + ms(1_000_000);
            let next = late.map(|late| now + tick.min(ms(late.min(0).unsigned_abs())) - ms(late.max(0) as u64));
            let position = Position { tick: at, stood_still: 0, next };
            let due = sweep.tick_after(position, time, now);

            // The wheel turns now as often as it has to, and then tick by tick.
            let turns = sweep.ticks_due(next, now);
            let mut next = next.map_or(now + tick, |next| next + turns * tick);
            let following = |tick: u32| tick.checked_add(1).unwrap_or(1);
            let mut current = (0..turns).fold(at, |tick, _| following(tick));
            prop_assert_ne!(current, due);
            while following(current) != due {
                current = following(current);
                next += tick;
            }
            prop_assert!(next >= now + time, "early by {:?}", now + time - next);
            prop_assert!(next <= now + time + 2 * tick, "late by {:?}", next - now - time);
        }
    }

    #[test]
    fn ticks_are_neither_too_short_nor_too_long() {
        for (times, tick) in [
            (&[Duration::from_millis(20)][..], 1),
            (&[Duration::from_millis(400), Duration::from_secs(9)], 2),
            (&[Duration::from_secs(3600)], 1000),
        ] {
            assert_eq!(Sweep::new(times).tick, Duration::from_millis(tick));
        }
    }
}
