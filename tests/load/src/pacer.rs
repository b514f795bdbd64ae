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
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep_until,
};

/// From here on a millisecond more or less does not count.
const LONG: Duration = Duration::from_millis(15);

/// Ticks at moments that are all known beforehand.
pub struct Pacer {
    timer: Timer,
    next: Instant,
    interval: Duration,
}

enum Timer {
    /// The kernel's own, a file each.
    Fine(AsyncFd<OwnedFd>),
    /// Tokio's, a millisecond apart: they cost nothing, and thousands of sockets have long
    /// intervals.
    Coarse,
}

impl Pacer {
    /// The first tick comes after `offset`, the others at the interval.
    pub fn start(offset: Duration, interval: Duration) -> io::Result<Self> {
        let next = Instant::now() + offset;
        let timer = match interval < LONG {
            true => Timer::Fine(kernel_timer(offset, interval)?),
            false => Timer::Coarse,
        };
        Ok(Self {
            timer,
            next,
            interval,
        })
    }

    /// Waits for the next tick; hands over the moments of all that have passed since the last
    /// call. Safe to cancel.
    pub async fn ticks(&mut self) -> io::Result<impl Iterator<Item = Instant> + use<>> {
        let count = match &self.timer {
            Timer::Fine(timer) => expirations(timer).await?,
            Timer::Coarse => {
                sleep_until(self.next.into()).await;
                let late = self.next.elapsed().as_nanos() / self.interval.as_nanos();
                late as u32 + 1
            }
        };
        let (first, interval) = (self.next, self.interval);
        self.next += interval * count;
        Ok((0..count).map(move |tick| first + interval * tick))
    }
}

fn kernel_timer(offset: Duration, interval: Duration) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let times = Itimerspec {
        it_interval: timespec(interval),
        // Zero would switch the timer off.
        it_value: timespec(offset.max(Duration::from_nanos(1))),
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    #[allow(
        unsafe_code,
        reason = "there is no safe way to wait for a file descriptor"
    )]
    // SAFETY: an OwnedFd is the same open descriptor for as long as it lives.
    let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE)? };
    Ok(timer)
}

async fn expirations(timer: &AsyncFd<OwnedFd>) -> io::Result<u32> {
    loop {
        let mut ready = timer.readable().await?;
        let mut count = [0; 8];
        let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?));
        if let Ok(read) = read {
            read?;
            return Ok(u64::from_ne_bytes(count) as u32);
        }
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
        for interval in [Duration::from_millis(2), LONG] {
            keeps_schedule(interval).await;
        }
    }

    async fn keeps_schedule(interval: Duration) {
        let mut pacer = Pacer::start(interval, interval).unwrap();
        let first: Vec<Instant> = pacer.ticks().await.unwrap().collect();
        std::thread::sleep(interval * 10);
        let missed: Vec<Instant> = pacer.ticks().await.unwrap().collect();
        assert!(missed.len() >= 9, "{}", missed.len());
        let all: Vec<Instant> = first.into_iter().chain(missed).collect();
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == interval));
    }
}
