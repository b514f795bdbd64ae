//! Requests of a kind of which a client may have one at a time: its polls, and what it posts.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
};

use futures_util::task::AtomicWaker;

/// A request of a kind of which a client may have one at a time.
#[derive(Default)]
pub(super) struct Turn {
    is_taken: AtomicBool,
    has_ended: AtomicBool,
    request: AtomicWaker,
}

/// The request is under way.
pub(super) struct UnderWay<'a>(&'a Turn);

impl Turn {
    /// Begins one; none if there is one already.
    pub(super) fn begin(&self) -> Option<UnderWay<'_>> {
        let is_free = !self.is_taken.swap(true, Ordering::AcqRel);
        is_free.then(|| UnderWay(self))
    }

    /// The session ends, and the request with it.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.request.wake();
    }

    /// Waits for that.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| {
            self.request.register(cx.waker());
            match self.has_ended.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}
