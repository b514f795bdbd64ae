//! What follows commits, in their order.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{CommitError, Local, Open, Transaction};
use crate::panics;

/// So much is performed by who has just committed; the rest is left to the settler, so that nobody's
/// socket waits for long for what others want.
const MAX_HERE: usize = 64;

/// Why a commit that was applied cannot be told of as one that is durable.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unstored {
    /// The disk did not take it, and nothing of it has happened.
    #[error("{0}")]
    Undone(Arc<str>),
    /// The disk takes so long that nobody knows what becomes of it.
    #[error("the store does not answer, and nobody knows what becomes of what was written")]
    Overdue,
}

/// Tells whoever waits for a commit that nobody knows what becomes of it.
pub(crate) type Tell = Box<dyn FnOnce() + Send>;

/// What follows a commit: effects, an ack.
pub(crate) trait Follow: Send + 'static {
    /// Performs it, or tells that the commit is undone.
    fn follow(self: Box<Self>, stored: Result<(), Unstored>);

    /// The disk takes so long that whoever waits is to be told by what this returns, under no lock. It
    /// follows still, but for nobody, when the disk has answered.
    fn overdue(&mut self) -> Tell;

    /// Whether the commit is wanted still, right before it happens. Asked under the store's lock.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// Nothing follows but that somebody waits.
struct Told {
    told: Option<oneshot::Sender<Result<(), Unstored>>>,
    /// However long the disk takes.
    is_patient: bool,
}

impl Told {
    fn tell(&mut self, stored: Result<(), Unstored>) {
        if let Some(told) = self.told.take() {
            // Who waits may be gone.
            let _ = told.send(stored);
        }
    }
}

impl Follow for Told {
    fn follow(mut self: Box<Self>, stored: Result<(), Unstored>) {
        self.tell(stored);
    }

    fn overdue(&mut self) -> Tell {
        if !self.is_patient {
            self.tell(Err(Unstored::Overdue));
        }
        Box::new(|| {})
    }
}

/// What waits for a commit.
struct Waiting {
    seq: u64,
    since: Instant,
    is_overdue: bool,
    follow: Box<dyn Follow>,
}

/// What waits, by the number of its commit.
#[derive(Default)]
pub(super) struct Following {
    waiting: VecDeque<Waiting>,
    /// Somebody performs what was due. Whoever else has something due leaves it to them, or it could
    /// overtake.
    is_performed: bool,
}

impl Following {
    /// Something follows the commit `seq`, which is none before the last one pushed.
    pub(super) fn push(&mut self, seq: u64, follow: Box<dyn Follow>) {
        self.waiting.push_back(Waiting {
            seq,
            since: Instant::now(),
            is_overdue: false,
            follow,
        });
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn is_due(&self, tellable: u64) -> bool {
        let next = self.waiting.front();
        next.is_some_and(|waiting| waiting.seq <= tellable)
    }

    /// All that waits for commits after `durable`.
    pub(super) fn take_undone(&mut self, durable: u64) -> Vec<Box<dyn Follow>> {
        let kept = self
            .waiting
            .partition_point(|waiting| waiting.seq <= durable);
        let undone = self.waiting.split_off(kept);
        undone.into_iter().map(|waiting| waiting.follow).collect()
    }

    /// What is to be told to those who have waited for so long, and were not told yet.
    fn overdue(&mut self, patience: Duration) -> Vec<Tell> {
        let is_late = |waiting: &&mut Waiting| waiting.since.elapsed() >= patience;
        let late = self.waiting.iter_mut().take_while(is_late);
        let untold = late.filter(|waiting| !waiting.is_overdue);
        let overdue = |waiting: &mut Waiting| {
            waiting.is_overdue = true;
            waiting.follow.overdue()
        };
        untold.map(overdue).collect()
    }
}

impl Open {
    /// Commits a transaction that nothing follows, and waits until that may be told.
    pub async fn commit_alone(&self, transaction: Transaction) -> Result<(), CommitError> {
        self.commit_and_wait(transaction, false).await
    }

    /// The same, however long the disk takes: what is not committed then never is.
    pub async fn commit_for_certain(&self, transaction: Transaction) -> Result<(), CommitError> {
        self.commit_and_wait(transaction, true).await
    }

    async fn commit_and_wait(
        &self,
        transaction: Transaction,
        is_patient: bool,
    ) -> Result<(), CommitError> {
        let (told, tells) = oneshot::channel();
        let told = Box::new(Told {
            told: Some(told),
            is_patient,
        });
        let committed = self.commit(transaction, told).known().await;
        committed.map_err(|(error, _)| error)?;
        let stored = tells.await.unwrap_or(Err(Unstored::Overdue));
        stored.map_err(|unstored| CommitError::Unavailable(unstored.to_string().into()))
    }
}

impl Local {
    /// Tells those who have waited too long for the disk.
    pub(super) fn tell_overdue(&self) {
        let overdue = {
            let mut state = self.state.lock();
            state.following.overdue(self.config().commit_timeout)
        };
        for tell in overdue {
            caught(tell);
        }
    }

    /// Performs what is due on this thread, if nobody else does.
    pub(super) fn follow_here(&self) {
        if self.perform(MAX_HERE) {
            self.signals.settled.notify_one();
        }
    }

    /// Performs what is due, and lets others run between.
    pub(super) async fn settle(&self) {
        while self.perform(MAX_HERE) {
            tokio::task::yield_now().await;
        }
    }

    /// Performs so much at `most` of what is due, in order. Whether there is more.
    fn perform(&self, most: usize) -> bool {
        let mut performed = 0;
        loop {
            let follow = {
                let mut state = self.state.lock();
                let is_due = {
                    let tellable = self.tellable(&state);
                    state.following.is_due(tellable)
                };
                let following = &mut state.following;
                if performed == 0 && following.is_performed {
                    return false;
                }
                following.is_performed = is_due && performed < most;
                if !following.is_performed {
                    return is_due;
                }
                following.waiting.pop_front()
            };
            if let Some(waiting) = follow {
                tell(waiting.follow, Ok(()));
            }
            performed += 1;
        }
    }
}

pub(super) fn tell(follow: Box<dyn Follow>, stored: Result<(), Unstored>) {
    caught(|| follow.follow(stored));
}

/// A panic of one is not the end of the others.
pub(super) fn caught(tell: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(tell)) {
        let panic = panics::message(&*panic);
        tracing::error!("what follows a commit ended with a panic: {panic}");
    }
}
