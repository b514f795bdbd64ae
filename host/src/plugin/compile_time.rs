//! What a compile costs, in CPU time of its threads: on a machine that does much else, the clock would
//! punish honest plugins.

use std::{
    fs,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use rustix::thread::{Pid, gettid};

/// The time of one compile.
#[derive(Clone)]
pub(super) struct CompileTime {
    began: Instant,
    threads: Arc<Mutex<Vec<Pid>>>,
    /// What it has used, once it is over.
    total: Arc<OnceLock<Duration>>,
}

impl CompileTime {
    /// It begins.
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            threads: Arc::default(),
            total: Arc::default(),
        }
    }

    /// Threads for this compile alone. On those that all share, one that is over its budget would keep
    /// the others waiting until it ends. They are as low in priority as the thread that makes them.
    pub(super) fn threads(&self) -> Result<ThreadPool, ThreadPoolBuildError> {
        let threads = self.threads.clone();
        ThreadPoolBuilder::new()
            .thread_name(|_| "compile".to_owned())
            .start_handler(move |_| threads.lock().push(gettid()))
            .build()
    }

    /// It is over, and its threads are about to go. Returns what it has used.
    pub(super) fn end(&self) -> Duration {
        *self.total.get_or_init(|| self.counted())
    }

    /// What it has used until now.
    pub(super) fn used(&self) -> Duration {
        let total = self.total.get().copied();
        total.unwrap_or_else(|| self.counted())
    }

    /// Time on the clock as long as there are no threads, and where the system does not count theirs.
    fn counted(&self) -> Duration {
        let threads = self.threads.lock();
        let used: Option<Vec<_>> = threads.iter().map(|thread| cpu_time(*thread)).collect();
        match used {
            Some(used) if !used.is_empty() => used.into_iter().sum(),
            _ => self.began.elapsed(),
        }
    }
}

/// What a thread of this process has run for. Only a thread itself can be asked elsewhere than on Linux.
fn cpu_time(thread: Pid) -> Option<Duration> {
    let thread = thread.as_raw_nonzero();
    let counted = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let nanoseconds = counted.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn what_waits_uses_nothing_and_what_works_does() {
        const WORK: Duration = Duration::from_millis(20);
        let time = CompileTime::begin();
        let threads = time.threads().unwrap();
        threads.install(|| sleep(10 * WORK));
        let waited = time.used();
        threads.install(|| {
            while time.used() < waited + WORK {
                std::hint::spin_loop();
            }
        });
        let total = time.end();
        drop(threads);
        assert_eq!(time.used(), total, "its threads are gone");
        if cfg!(target_os = "linux") {
            assert!(waited < 10 * WORK, "{waited:?}");
        }
    }
}
