//! How many calls of a plugin run at once, and how many of them wait for clients or servers.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};

use crate::ordered_lock::{OrderedMutex, rank};

/// The right to run so many calls at once. A call that cannot go on for the time being lends its own, so
/// that others run meanwhile.
pub struct Permits {
    free: Semaphore,
    /// Lent, and to be kept back from those who return one.
    owed: OrderedMutex<{ rank::PERMITS }, usize>,
}

/// A permit that is lent until this is dropped.
struct Loan(Arc<Permits>);

impl Permits {
    /// For at most `calls` at once.
    pub fn new(calls: usize) -> Self {
        Self {
            free: Semaphore::new(calls),
            owed: OrderedMutex::new(0),
        }
    }

    /// Takes one, if there is one right now.
    pub fn try_take(&self) -> bool {
        let taken = self.free.try_acquire();
        taken.map(|permit| permit.forget()).is_ok()
    }

    /// Takes one as soon as there is one.
    pub async fn take(&self) {
        let taken = self.free.acquire().await;
        taken.expect("the semaphore is never closed").forget();
    }

    /// Gives one back.
    pub fn give_back(&self) {
        // Held to the end: a permit that is free must not be owed as well.
        let mut owed = self.owed.lock();
        match owed.checked_sub(1) {
            Some(less) => *owed = less,
            None => self.free.add_permits(1),
        }
    }

    /// Takes so many as soon as they are free, so that nobody else has one of them.
    pub async fn take_all(self: &Arc<Self>, calls: usize) -> Hold {
        let mut hold = Hold {
            permits: self.clone(),
            taken: 0,
        };
        while hold.taken < calls {
            self.take().await;
            hold.taken += 1;
        }
        hold
    }

    fn lend(self: &Arc<Self>) -> Loan {
        self.free.add_permits(1);
        Loan(self.clone())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut owed = self.0.owed.lock();
        if !self.0.try_take() {
            *owed += 1;
        }
    }
}

/// Permits that are kept from all calls until this is dropped.
pub struct Hold {
    permits: Arc<Permits>,
    taken: usize,
}

impl Hold {
    /// Keeps them for ever.
    pub fn keep(mut self) {
        self.taken = 0;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for _ in 0..self.taken {
            self.permits.give_back();
        }
    }
}

/// The places of calls that wait for somebody to answer: clients or servers that never do must not stop a
/// plugin. So there are fewer places than calls that may run, or who has one lets another call run.
pub struct Places {
    places: Arc<Semaphore>,
    /// Whether a call that has a place lends its permit meanwhile.
    lend: bool,
    /// How many may wait for a place: each of them keeps an instance.
    queue: Semaphore,
    permits: Arc<Permits>,
}

/// Held by a call while it waits.
pub struct Place {
    _place: OwnedSemaphorePermit,
    _loan: Option<Loan>,
}

impl Places {
    /// So many `places`, of calls that run with `permits`; as many calls as there are `instances` may
    /// wait for one.
    pub fn new(places: usize, instances: usize, permits: Arc<Permits>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            lend: false,
            queue: Semaphore::new(instances),
            permits,
        }
    }

    /// The same, where who has a place lets another call run.
    pub fn lending(places: usize, instances: usize, permits: Arc<Permits>) -> Self {
        Self {
            lend: true,
            ..Self::new(places, instances, permits)
        }
    }

    /// A place, if there is one now or by `until`. Others run while it waits.
    pub async fn take(&self, until: Instant) -> Option<Place> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(self.place(place));
        }
        let _in_queue = self.queue.try_acquire().ok()?;
        let _loan = self.permits.lend();
        let place = timeout_at(until.into(), self.places.clone().acquire_owned()).await;
        let place = place.ok()?.ok()?;
        Some(self.place(place))
    }

    fn place(&self, place: OwnedSemaphorePermit) -> Place {
        Place {
            _place: place,
            _loan: self.lend.then(|| self.permits.lend()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::poll_fn,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::interleave::run;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn who_waits_for_a_place_lends_its_permit_and_takes_it_back() {
        let permits = Arc::new(Permits::new(2));
        let places = Places::new(1, 2, permits.clone());
        assert!(permits.try_take() && permits.try_take() && !permits.try_take());
        let place = places.take(Instant::now()).await;
        assert!(place.is_some());
        let mut waiting = std::pin::pin!(places.take(Instant::now() + LONG));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(permits.try_take(), "another one runs meanwhile");
        drop(place);
        assert!(waiting.await.is_some());
        // Three run, of two that may: the first that ends makes no room.
        permits.give_back();
        assert!(!permits.try_take());
        permits.give_back();
        assert!(permits.try_take() && !permits.try_take());
    }

    #[tokio::test]
    async fn who_has_a_place_lends_its_permit_where_that_is_so() {
        let permits = Arc::new(Permits::new(1));
        for (places, others_run) in [
            (Places::new(1, 1, permits.clone()), false),
            (Places::lending(1, 1, permits.clone()), true),
        ] {
            assert!(permits.try_take());
            let place = places.take(Instant::now()).await;
            assert_eq!(permits.try_take(), others_run);
            if others_run {
                permits.give_back();
            }
            drop(place);
            assert!(!permits.try_take());
            permits.give_back();
        }
    }

    #[tokio::test]
    async fn nothing_is_lent_for_ever() {
        let permits = Arc::new(Permits::new(1));
        let places = Places::new(0, 1, permits.clone());
        assert!(permits.try_take());
        for _ in 0..10 {
            // One that has waited for too long, and one that is dropped while it waits.
            assert!(places.take(Instant::now()).await.is_none());
            let mut waiting = Box::pin(places.take(Instant::now() + LONG));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            assert!(
                places.take(Instant::now() + LONG).await.is_none(),
                "the queue is full"
            );
        }
        permits.give_back();
        assert!(permits.try_take() && !permits.try_take());
    }

    /// A call: it runs, and perhaps waits for clients.
    async fn call(permits: &Permits, places: &Places, waits: bool, running: &Cell<usize>) {
        permits.take().await;
        let _running = Running::begin(permits, running);
        yield_once().await;
        if waits {
            let place = places.take(Instant::now() + LONG).await;
            yield_once().await;
            drop(place);
        }
    }

    /// Has the right to run until it is dropped, also where that is in the middle of a call.
    struct Running<'a>(&'a Permits, &'a Cell<usize>);

    impl<'a> Running<'a> {
        fn begin(permits: &'a Permits, running: &'a Cell<usize>) -> Self {
            running.set(running.get() + 1);
            Self(permits, running)
        }
    }

    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.1.set(self.1.get() - 1);
            self.0.give_back();
        }
    }

    async fn yield_once() {
        let mut has_yielded = false;
        poll_fn(|cx| match std::mem::replace(&mut has_yielded, true) {
            true => Poll::Ready(()),
            false => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }

    proptest! {
        #[test]
        fn no_call_is_let_in_beside_one_that_has_its_permit_back(
            choices in vec(any::<u8>(), 0..30),
            ends in 1..3_usize,
        ) {
            let permits = Arc::new(Permits::new(ends + 1));
            // All run, one of them has lent its permit, and another call has that.
            prop_assert!((0..=ends).all(|_| permits.try_take()));
            let loan = permits.lend();
            prop_assert!(permits.try_take());
            run(&choices, vec![
                Box::new(|| drop(loan)),
                Box::new(|| (0..ends).for_each(|_| permits.give_back())),
            ]);
            // Of as many as may run and one more, so many have ended.
            let free = permits.free.available_permits();
            prop_assert_eq!((free, *permits.owed.lock()), (ends - 1, 0));
        }

        #[test]
        fn no_permit_is_lost_and_no_call_waits_for_ever(
            calls in 1..3_usize,
            places in 0..3_usize,
            wait in vec(any::<bool>(), 1..6),
            steps in vec((any::<usize>(), proptest::bool::weighted(0.1)), 0..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let _context = runtime.as_ref().unwrap().enter();
            let permits = Arc::new(Permits::new(calls));
            let all = wait.len();
            let places = Places::new(places.min(calls), all, permits.clone());
            let running = Cell::new(0);
            let begin = |waits: &bool| Some(Box::pin(call(&permits, &places, *waits, &running)));
            let mut under_way: Vec<_> = wait.iter().map(begin).collect();
            let mut cx = Context::from_waker(Waker::noop());
            for (index, is_dropped) in steps {
                let call = &mut under_way[index % all];
                let is_over = call.as_mut().is_some_and(|call| call.as_mut().poll(&mut cx).is_ready());
                if is_over || is_dropped {
                    *call = None;
                }
            }
            // All that can go on do. Where there are no places, those that wait for one do for long.
            for _ in 0..10 * all {
                for call in &mut under_way {
                    if call.as_mut().is_some_and(|call| call.as_mut().poll(&mut cx).is_ready()) {
                        *call = None;
                    }
                }
            }
            let has_places = places.places.available_permits() > 0;
            prop_assert!(!has_places || under_way.iter().all(Option::is_none), "one waits for ever");
            under_way.clear();
            prop_assert_eq!(permits.free.available_permits(), calls + *permits.owed.lock());
            prop_assert_eq!(running.get(), 0);
        }
    }
}
