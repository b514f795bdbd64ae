//! The outbox under those who use it at once, in orders by chance: each packet leaves once, in the order
//! in which it was added, and none stays behind where nobody is to come for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
};

use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::interleave::{point, run};

const ROOMY: Capacity = Capacity {
    packets: 100,
    bytes: 10_000,
};

/// So often each of them does what it does.
const ROUNDS: usize = 3;

/// An outbox, its client, and who is to come.
struct Way {
    outbox: Outbox,
    /// What has been added, in order.
    added: Mutex<Vec<u8>>,
    /// What the client has got.
    got: Mutex<Vec<u8>>,
    /// How many bytes the client takes.
    room: Mutex<usize>,
    has_websocket: AtomicBool,
    /// Somebody comes when the pause is over.
    is_paused: AtomicBool,
    /// A poll waits, until it is woken.
    is_polling: AtomicBool,
    poll: Arc<Woken>,
}

/// Whether a poll has been woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Way {
    fn new(has_websocket: bool, room: usize) -> Self {
        let outbox = Outbox::new(ROOMY);
        if has_websocket {
            outbox.open_websocket();
        }
        Self {
            outbox,
            added: Mutex::default(),
            got: Mutex::default(),
            room: Mutex::new(room),
            has_websocket: has_websocket.into(),
            is_paused: AtomicBool::new(false),
            is_polling: AtomicBool::new(false),
            poll: Arc::default(),
        }
    }

    /// As the session does, with a client in place of the connection.
    fn flush(&self) {
        let has_websocket = self.has_websocket.load(Ordering::Relaxed);
        let write = |packets: &mut _| self.write(packets);
        self.has_flushed(self.outbox.flush_by(has_websocket.then_some(write)));
    }

    fn has_flushed(&self, flushed: Flushed) {
        match flushed {
            // The task of the websocket comes for what is blocked, as soon as there is room.
            Flushed::Done | Flushed::Blocked => {}
            Flushed::Held => {
                let was_paused = self.is_paused.swap(true, Ordering::Relaxed);
                assert!(!was_paused, "the clock is asked once");
            }
            Flushed::Failed(error) => panic!("{error}"),
        }
    }

    fn write(&self, packets: &mut VecDeque<Bytes>) -> io::Result<()> {
        while let Some(packet) = packets.front_mut() {
            point();
            let mut room = self.room.lock();
            if *room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let written = packet.split_to(packet.len().min(*room));
            *room -= written.len();
            self.got.lock().extend(&written);
            if packet.is_empty() {
                packets.pop_front();
            }
        }
        Ok(())
    }

    /// Two bytes, so that a client may take half a packet.
    fn push(&self, number: usize) {
        let packet = Bytes::from(vec![number as u8; 2]);
        let pushed = self.outbox.push(&packet, false);
        if matches!(pushed, Pushed::Taken | Pushed::Waiting) {
            self.added.lock().extend(&packet);
        }
        if pushed == Pushed::Waiting {
            self.flush();
        }
    }

    fn sender(&self, number: usize) -> impl FnOnce() + Send {
        move || (0..ROUNDS).for_each(|round| self.push(number * ROUNDS + round))
    }

    /// The task of the websocket: reads what the client sends, which is answered.
    fn reader(&self, number: usize) -> impl FnOnce() + Send {
        move || {
            for round in 0..ROUNDS {
                self.outbox.reader_left();
                self.push(number * ROUNDS + round);
                self.outbox.reader_is_back();
                self.flush();
                self.write_on();
            }
        }
    }

    /// The same, as there is room again.
    fn write_on(&self) {
        *self.room.lock() += 1;
        if self.outbox.is_blocked() {
            self.outbox.unblock();
            self.flush();
        }
    }

    /// The client is let in, which begins a pause.
    fn introduction(&self) -> impl FnOnce() + Send {
        const PAUSE: Duration = Duration::from_secs(60);
        || {
            self.outbox.wait_for_nobody();
            self.flush();
            self.outbox.hold(PAUSE);
        }
    }

    fn clock(&self) -> impl FnOnce() + Send {
        || (0..ROUNDS).for_each(|_| self.end_pause())
    }

    fn end_pause(&self) {
        point();
        if self.is_paused.swap(false, Ordering::Relaxed) {
            self.outbox.release();
            self.flush();
        }
    }

    /// A poll takes a packet, or waits until it is woken. False if it has none.
    fn poll(&self) -> bool {
        let is_woken = self.poll.0.swap(false, Ordering::Relaxed);
        if self.is_polling.load(Ordering::Relaxed) && !is_woken {
            return false;
        }
        let waker = self.poll.clone().into();
        let mut cx = Context::from_waker(&waker);
        let polled = self.outbox.poll_packets(&mut cx, |mut packets| {
            self.got.lock().extend(packets.next().into_iter().flatten());
            1
        });
        self.is_polling
            .store(polled.is_pending(), Ordering::Relaxed);
        polled == Poll::Ready(Polled::Packets)
    }

    fn polls(&self) -> impl FnOnce() + Send {
        || {
            for _ in 0..2 * ROUNDS {
                self.poll();
                point();
            }
        }
    }

    /// The client has got a websocket, at its task.
    fn upgrade(&self) -> impl FnOnce() + Send {
        || {
            self.has_websocket.store(true, Ordering::Relaxed);
            point();
            self.outbox.open_websocket();
            self.flush();
        }
    }

    /// The last packet: nothing comes behind it.
    fn end(&self, is_closed: bool) -> impl FnOnce() + Send {
        move || match is_closed {
            true => self.outbox.close(),
            false => {
                let last = Bytes::from_static(b"..");
                if self.outbox.push_last(last.clone()) != Pushed::Closed {
                    self.added.lock().extend(&last);
                }
                self.flush();
            }
        }
    }

    /// Everybody comes who is to come, and the client takes everything.
    fn settle(&self) {
        *self.room.lock() = usize::MAX / 2;
        while self.outbox.is_blocked() || self.is_paused.load(Ordering::Relaxed) {
            self.write_on();
            self.end_pause();
        }
        while self.poll() {}
    }
}

/// Makes threads of what some do.
macro_rules! threads {
    ($($thread:expr),+ $(,)?) => {
        vec![$(Box::new($thread) as Box<dyn FnOnce() + Send + '_>),+]
    };
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..80)
}

proptest! {
    #[test]
    fn a_websocket_gets_each_packet_once_and_in_order(choices in choices(), room in 0..20_usize) {
        let way = Way::new(true, room);
        run(&choices, threads![
            way.sender(0), way.sender(1), way.reader(2), way.introduction(), way.clock(),
        ]);
        way.settle();
        prop_assert_eq!(&*way.got.lock(), &*way.added.lock());
    }

    #[test]
    fn polls_and_then_a_websocket_get_each_packet_once_and_in_order(
        choices in choices(),
        is_upgraded in any::<bool>(),
    ) {
        let way = Way::new(false, 1);
        let mut all = threads![way.sender(0), way.sender(1), way.polls()];
        if is_upgraded {
            all.push(Box::new(way.upgrade()));
        }
        run(&choices, all);
        way.settle();
        prop_assert_eq!(&*way.got.lock(), &*way.added.lock());
        prop_assert!(!is_upgraded || !way.is_polling.load(Ordering::Relaxed) || way.poll.0.load(Ordering::Relaxed));
    }

    #[test]
    fn nothing_is_sent_behind_the_last_packet(
        choices in choices(),
        room in 0..20_usize,
        has_websocket in any::<bool>(),
        is_closed in any::<bool>(),
    ) {
        let way = Way::new(has_websocket, room);
        let client = match has_websocket {
            true => Box::new(way.reader(2)) as Box<dyn FnOnce() + Send>,
            false => Box::new(way.polls()),
        };
        let mut all = threads![way.sender(0), way.sender(1), way.end(is_closed)];
        all.push(client);
        run(&choices, all);
        way.settle();
        prop_assert!(way.outbox.is_done());
        let (got, added) = (way.got.lock(), way.added.lock());
        prop_assert!(added.starts_with(&got), "{:?} of {:?}", got, added);
        prop_assert!(is_closed || got.len() == added.len(), "{:?} of {:?}", got, added);
    }
}
