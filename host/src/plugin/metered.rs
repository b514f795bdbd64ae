//! What the polls of a call cost.

use std::{
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

/// Ends with none when its polls have used more CPU time than `limit`. Wall time would punish
/// honest guests for sharing a thread with looping ones.
pub(super) struct Metered<'a, F: ?Sized> {
    /// What is being polled.
    pub future: Pin<&'a mut F>,
    /// Counts on.
    pub cpu: &'a mut CpuTime,
    /// How much is allowed.
    pub limit: Duration,
}

impl<F: Future + ?Sized> Future for Metered<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let before = thread_cpu_time();
        let poll = this.future.as_mut().poll(cx);
        this.cpu.used += thread_cpu_time().saturating_sub(before);
        match poll {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if this.cpu.used > this.limit => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// CPU time of the current thread.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
