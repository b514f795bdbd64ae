//! The tasks that the server cannot do without. One that panics is started again and goes on where it
//! was; where that does not help, the server ends and says why.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::panics::caught;

/// Pause before a task is started again: what it failed at may pass. Twice as long after each failure.
const PAUSE: Duration = Duration::from_millis(100);

/// So many failures in a row are the end.
const MAX_FAILURES: u32 = 5;

/// A task that ran for so long had got over its last failure.
const STEADY: Duration = Duration::from_secs(60);

/// A task that runs until the server stops.
pub(crate) trait Task: Send + 'static {
    /// For the log and `/readyz`.
    const NAME: &'static str;

    /// Runs until `stop`. Called again after a panic.
    fn run(&mut self, stop: &CancellationToken) -> impl Future<Output = ()> + Send;
}

/// A task fails again and again.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server cannot go on: its task {task:?} failed {MAX_FAILURES} times in a row: {reason}"
)]
pub struct TaskFailed {
    task: &'static str,
    reason: String,
}

/// The tasks of a server.
pub(crate) struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    down: Down,
    failures: (mpsc::Sender<TaskFailed>, mpsc::Receiver<TaskFailed>),
}

/// The names of the tasks that have failed and are not running again yet.
#[derive(Clone, Default)]
pub(crate) struct Down(Arc<Mutex<BTreeSet<&'static str>>>);

impl Down {
    /// The names as they are now.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.lock().iter().copied().collect()
    }
}

impl Tasks {
    /// None yet. All of them end at `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            tracker: TaskTracker::new(),
            down: Down::default(),
            failures: mpsc::channel(1),
        }
    }

    /// Who is not running.
    pub(crate) fn down(&self) -> Down {
        self.down.clone()
    }

    /// Starts a task, and again whenever it fails.
    pub(crate) fn spawn(&self, task: impl Task) {
        let (stop, down) = (self.stop.clone(), self.down.clone());
        let failures = self.failures.0.clone();
        self.tracker.spawn(async move {
            if let Err(failed) = keep_running(task, &stop, &down).await {
                // Full: the server ends for another one already.
                let _ = failures.try_send(failed);
            }
        });
    }

    /// Waits for a task that cannot be kept running.
    pub(crate) async fn failure(&mut self) -> TaskFailed {
        let failed = self.failures.1.recv().await;
        failed.expect("a sender is kept beside the receiver")
    }

    /// Waits for the end of all tasks.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn keep_running<T: Task>(
    mut task: T,
    stop: &CancellationToken,
    down: &Down,
) -> Result<(), TaskFailed> {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let ended = caught(task.run(stop)).await;
        if stop.is_cancelled() {
            return Ok(());
        }
        let reason = ended
            .err()
            .unwrap_or_else(|| "it ended by itself".to_owned());
        down.0.lock().insert(T::NAME);
        if began.elapsed() >= STEADY {
            failures = 0;
        }
        failures += 1;
        if failures == MAX_FAILURES {
            let task = T::NAME;
            return Err(TaskFailed { task, reason });
        }
        tracing::error!(
            task = T::NAME,
            "a task failed and is started again: {reason}"
        );
        tokio::select! {
            () = sleep(PAUSE * 2_u32.pow(failures - 1)) => {}
            () = stop.cancelled() => return Ok(()),
        }
        down.0.lock().remove(T::NAME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails so many times.
    struct Fails {
        times: u32,
        /// By a panic, or else by its end.
        panics: bool,
        runs: mpsc::UnboundedSender<u32>,
    }

    impl Task for Fails {
        const NAME: &'static str = "test";

        async fn run(&mut self, stop: &CancellationToken) {
            self.runs.send(self.times).unwrap();
            if let Some(left) = self.times.checked_sub(1) {
                self.times = left;
                assert!(!self.panics, "it fails on purpose");
                return;
            }
            stop.cancelled().await;
        }
    }

    fn start(times: u32, panics: bool) -> (Tasks, mpsc::UnboundedReceiver<u32>, CancellationToken) {
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone());
        let (sender, runs) = mpsc::unbounded_channel();
        tasks.spawn(Fails {
            times,
            panics,
            runs: sender,
        });
        (tasks, runs, stop)
    }

    #[tokio::test]
    async fn a_task_that_fails_is_started_again_and_goes_on_where_it_was() {
        for panics in [true, false] {
            let (tasks, mut runs, stop) = start(2, panics);
            assert_eq!(runs.recv().await, Some(2));
            assert_eq!(runs.recv().await, Some(1));
            assert_eq!(runs.recv().await, Some(0));
            assert!(tasks.down().names().is_empty());
            stop.cancel();
            tasks.ended().await;
        }
    }

    #[tokio::test]
    async fn a_task_that_is_not_running_is_named() {
        let (tasks, mut runs, _stop) = start(1, true);
        runs.recv().await.unwrap();
        // It failed before anybody else had a turn, and pauses.
        assert_eq!(tasks.down().names(), ["test"]);
        runs.recv().await.unwrap();
        assert!(tasks.down().names().is_empty());
    }

    #[tokio::test]
    async fn a_task_that_cannot_be_kept_running_is_the_end_with_its_reason() {
        let (mut tasks, mut runs, _stop) = start(u32::MAX, true);
        let failed = tasks.failure().await;
        assert_eq!(
            failed.to_string(),
            "the server cannot go on: its task \"test\" failed 5 times in a row: it fails on purpose"
        );
        assert_eq!(tasks.down().names(), ["test"]);
        tasks.ended().await;
        let mut count = 0;
        while runs.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, MAX_FAILURES);
    }
}
