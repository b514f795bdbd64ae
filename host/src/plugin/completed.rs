//! Calls that have been started, and calls that have ended.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use super::{call_error::CallError, job::Reply, pool::Lease};
use crate::capability::{Recorded, Written};

/// A call that has ended.
pub struct Completed {
    /// What the plugin said, or why it could not.
    pub reply: Result<Reply, CallError>,
    /// What it recorded; to be performed if the reply says so.
    pub recorded: Recorded,
    /// What it has used, with the attempts before.
    pub spent: Spent,
    /// What the guest wrote, for the log line of a failure; none if nothing.
    pub written: Option<Box<Written>>,
    /// The instance that it ran on, which others get when this is dropped: who performs the effects
    /// keeps it until then, so that the next call sees all of them. None after a failure.
    pub lease: Option<Lease>,
}

/// What a call has used of its budget of time, when it is run again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// When it was started for the first time; none if it was not yet.
    pub since: Option<Instant>,
    /// CPU time.
    pub cpu: Duration,
}

/// A call that has been started.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every call has ended at once, and a box would cost each of them"
)]
pub enum Started {
    /// It ended at once.
    Done(Completed),
    /// It takes longer, and is not to hold up whoever started it.
    Later(Later),
}

/// How a call ends that takes longer.
pub(crate) type Later = Pin<Box<dyn Future<Output = Completed> + Send>>;

impl Completed {
    /// A call without an answer.
    pub fn failed(error: CallError) -> Self {
        Self {
            reply: Err(error),
            recorded: Recorded::default(),
            spent: Spent::default(),
            written: None,
            lease: None,
        }
    }
}

impl Started {
    /// What the call ends with.
    pub async fn ended(self) -> Completed {
        match self {
            Self::Done(completed) => completed,
            Self::Later(completed) => completed.await,
        }
    }
}
