//! A clock that ticks at a fixed rate, whatever became of the questions asked before: latency
//! counts from the tick, so that a server that stalls cannot hide how long others had to wait.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Ticks with the kernel's own timers: those of tokio are a millisecond apart.
pub struct Pacer {
    timer: AsyncFd<OwnedFd>,
    next: Instant,
    interval: Duration,
}

impl Pacer {
    /// The first tick comes after `offset`, the others at the interval.
    pub fn start(offset: Duration, interval: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Zero would switch the timer off.
        let offset = offset.max(Duration::from_nanos(1));
        let times = Itimerspec {
            it_interval: timespec(interval),
            it_value: timespec(offset),
        };
        let next = Instant::now() + offset;
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        #[allow(
            unsafe_code,
            reason = "there is no safe way to wait for a file descriptor"
        )]
        // SAFETY: an OwnedFd is the same open descriptor for as long as it lives.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE)? };
        Ok(Self {
            timer,
            next,
            interval,
        })
    }

    /// Waits for the next tick; hands over the moments of all that have passed since the last
    /// call. Safe to cancel.
    pub async fn ticks(&mut self) -> io::Result<impl Iterator<Item = Instant> + use<>> {
        let count = loop {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?));
            if let Ok(read) = read {
                read?;
                break u64::from_ne_bytes(count) as u32;
            }
        };
        let (first, interval) = (self.next, self.interval);
        self.next += interval * count;
        Ok((0..count).map(move |tick| first + interval * tick))
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ticks_keep_their_schedule_when_nobody_looks() {
        let interval = Duration::from_millis(2);
        let mut pacer = Pacer::start(interval, interval).unwrap();
        let first: Vec<Instant> = pacer.ticks().await.unwrap().collect();
        std::thread::sleep(interval * 10);
        let missed: Vec<Instant> = pacer.ticks().await.unwrap().collect();
        assert!(missed.len() >= 9, "{}", missed.len());
        let all: Vec<Instant> = first.into_iter().chain(missed).collect();
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == interval));
    }
}
