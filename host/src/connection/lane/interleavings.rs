//! The lane under those who use it at once, in orders by chance: one arrival is handled at a time, in the
//! order in which they came, and none stays behind.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::interleave::{point, run};

/// So many events arrive, and then the end.
const EVENTS: usize = 5;

const CAPACITY: Capacity = Capacity {
    events: 3,
    bytes: 1_000,
};

struct Handlers {
    lane: Lane,
    is_handling: AtomicBool,
    /// The numbers of events; none for the end.
    handled: Mutex<Vec<Option<usize>>>,
    /// Those for which there was no room, or that came too late.
    refused: Mutex<Vec<usize>>,
    /// Whether an event takes long, so that somebody else goes on behind it.
    takes_long: Vec<bool>,
    moved: Mutex<usize>,
}

impl Handlers {
    fn new(takes_long: Vec<bool>) -> Self {
        Self {
            lane: Lane::closed(),
            is_handling: AtomicBool::new(false),
            handled: Mutex::default(),
            refused: Mutex::default(),
            takes_long,
            moved: Mutex::default(),
        }
    }

    /// As the dispatcher does.
    fn arrive(&self, arrival: Arrival) {
        match self.lane.enter(arrival, || CAPACITY) {
            Turn::Now(arrival) => self.proceed(arrival),
            Turn::Later => {}
            Turn::Over => self.refused.lock().push(usize::MAX),
            Turn::Full(arrival) => self.refused.lock().extend(number(&arrival)),
        }
    }

    fn open(&self) {
        if let Some(arrival) = self.lane.next() {
            self.proceed(arrival);
        }
    }

    fn proceed(&self, first: Arrival) {
        let mut next = Some(first);
        while let Some(arrival) = next {
            let others = self.is_handling.swap(true, Ordering::Relaxed);
            assert!(!others, "another one is handled");
            let number = number(&arrival);
            self.handled.lock().push(number);
            point();
            if number.is_some_and(|number| self.takes_long[number]) {
                *self.moved.lock() += 1;
                return;
            }
            self.is_handling.store(false, Ordering::Relaxed);
            next = self.lane.next();
        }
    }

    /// Ends what takes long; false if there is nothing of that.
    fn go_on(&self) -> bool {
        let is_moved = std::mem::take(&mut *self.moved.lock()) > 0;
        if is_moved {
            self.is_handling.store(false, Ordering::Relaxed);
            self.open();
        }
        is_moved
    }
}

fn event(number: usize) -> Arrival {
    Arrival::Event {
        span: crate::telemetry::Span::NONE,
        event: number.to_string().into(),
        message: Message::none(),
        ack: None,
    }
}

fn number(arrival: &Arrival) -> Option<usize> {
    match arrival {
        Arrival::Event { event, .. } => event.parse().ok(),
        Arrival::Disconnect { .. } => None,
    }
}

proptest! {
    #[test]
    fn one_arrival_is_handled_at_a_time_in_order_and_none_stays_behind(
        choices in vec(any::<u8>(), 0..60),
        takes_long in vec(any::<bool>(), EVENTS),
        drops in any::<bool>(),
    ) {
        let handlers = Handlers::new(takes_long);
        run(&choices, vec![
            Box::new(|| {
                for number in 0..EVENTS {
                    handlers.arrive(event(number));
                }
                handlers.arrive(Arrival::Disconnect { reason: "transport close" });
            }),
            Box::new(|| handlers.open()),
            Box::new(|| for _ in 0..EVENTS {
                point();
                handlers.go_on();
            }),
            Box::new(|| if drops {
                handlers.lane.end_events();
            }),
        ]);
        while handlers.go_on() {}
        let handled = handlers.handled.lock();
        let (last, events) = handled.split_last().unwrap();
        prop_assert_eq!(*last, None, "the end is told last");
        prop_assert!(events.iter().all(Option::is_some), "and once");
        prop_assert!(events.is_sorted_by(|one, next| one < next), "{:?}", events);
        let refused = handlers.refused.lock().len();
        prop_assert!(drops || events.len() + refused == EVENTS, "{:?}, {} refused", events, refused);
        prop_assert!(handlers.lane.next().is_none(), "nothing waits");
    }
}
