//! What follows commits, in their order.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::Open;
use crate::panics;

/// So much is performed by who has just committed; the rest is left to the settler, so that nobody's
/// socket waits for long for what others want.
const MAX_HERE: usize = 64;

/// A commit that was applied did not become durable, and is undone.
#[derive(Debug, Clone)]
pub struct Unstored(pub Arc<str>);

/// What follows a commit: effects, an ack.
pub trait Follow: Send + 'static {
    /// Performs it, or tells that the commit is undone.
    fn follow(self: Box<Self>, stored: Result<(), Unstored>);
}

/// What waits, by the number of its commit.
#[derive(Default)]
pub(super) struct Following {
    waiting: VecDeque<(u64, Box<dyn Follow>)>,
    /// Somebody performs what was due. Whoever else has something due leaves it to them, or it could
    /// overtake.
    is_performed: bool,
}

impl Following {
    /// Something follows the commit `seq`, which is none before the last one pushed.
    pub(super) fn push(&mut self, seq: u64, follow: Box<dyn Follow>) {
        self.waiting.push_back((seq, follow));
    }

    fn is_due(&self, tellable: u64) -> bool {
        let next = self.waiting.front();
        next.is_some_and(|(seq, _)| *seq <= tellable)
    }

    /// All that waits for commits after `durable`.
    pub(super) fn take_undone(&mut self, durable: u64) -> Vec<Box<dyn Follow>> {
        let kept = self.waiting.partition_point(|(seq, _)| *seq <= durable);
        let undone = self.waiting.split_off(kept);
        undone.into_iter().map(|(_, follow)| follow).collect()
    }
}

impl Open {
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
            if let Some((_, follow)) = follow {
                tell(follow, Ok(()));
            }
            performed += 1;
        }
    }
}

/// A panic of one is not the end of the others.
pub(super) fn tell(follow: Box<dyn Follow>, stored: Result<(), Unstored>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| follow.follow(stored))) {
        let panic = panics::message(&*panic);
        tracing::error!("what follows a commit ended with a panic: {panic}");
    }
}
