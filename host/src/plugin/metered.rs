//! What the polls of a call cost.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// CPU time that the polls of a call took, on whatever threads.
#[derive(Debug, Default)]
pub(super) struct CpuTime {
    used: Duration,
}

impl CpuTime {
    /// With so much used before.
    pub(super) fn from(used: Duration) -> Self {
        Self { used }
    }

    /// So much until now.
    pub(super) fn used(&self) -> Duration {
        self.used
    }
}

thread_local! {
    /// The CPU time of this thread at which what it is polling has used up its limit; none if nothing that
    /// is metered is being polled.
    static LIMIT: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Whether the call that is running on this thread has used up its CPU time.
pub(crate) fn is_out_of_time() -> bool {
    LIMIT.get().is_some_and(|limit| thread_cpu_time() > limit)
}

/// Ends with none when its polls have used more CPU time than `limit`. Wall time would punish
/// honest guests for sharing a thread with looping ones.
pub(super) struct Metered<'a, F: ?Sized> {
    /// What is being polled.
    pub future: Pin<&'a mut F>,
    /// Counts on.
    pub cpu: &'a mut CpuTime,
    /// How much is allowed.
    pub limit: Duration,
    /// How much longer who asks whether time is up may take to end.
    pub last_words: Duration,
}

impl<F: Future + ?Sized> Future for Metered<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let before = thread_cpu_time();
        let left = this.limit.saturating_sub(this.cpu.used);
        let outer = LIMIT.replace(Some(before + left));
        let poll = this.future.as_mut().poll(cx);
        LIMIT.set(outer);
        this.cpu.used += thread_cpu_time().saturating_sub(before);
        match poll {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if this.cpu.used > this.limit + this.last_words => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// CPU time of the current thread.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
