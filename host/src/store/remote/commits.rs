//! Commits that wait to be sent, or to be answered, in the order of their calls.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::sync::{Notify, oneshot};

use super::{
    is_refused,
    script::{Request, Scripts},
};
use crate::{
    config,
    rarely::Rarely,
    store::{
        Bucket, CommitError, Follow, Key, NO_NUMBER, OUT_OF_RANGE, QuotaOf, Refused, Signals,
        Written,
        following::{caught, tell},
    },
};

/// Commits that wait to be sent.
pub(super) struct Commits {
    waiting: Mutex<Waiting>,
    some: Notify,
    under_way: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Waiting {
    commits: VecDeque<Commit>,
    is_closed: bool,
}

/// One commit.
pub(super) struct Commit {
    /// None if Redis has nothing to do for it: it keeps its place among the others.
    request: Option<Box<Request>>,
    since: Instant,
    was_sent: bool,
    pending: Box<dyn Pending>,
    /// None if nobody waits for it any more: they were told that nobody knows.
    counted: Option<Counted>,
}

/// A commit that is under way.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whoever waits for a commit.
pub(super) trait Pending: Send {
    /// Whether it is wanted still, right before it is sent.
    fn is_wanted(&self) -> bool;

    /// It is committed.
    fn committed(self: Box<Self>, written: &Written);

    /// It is not.
    fn refused(self: Box<Self>, error: CommitError);

    /// Nobody knows yet. It is committed or refused later, for nobody.
    fn overdue(&mut self);
}

/// What follows a commit, and who is told whether it is one.
pub(super) struct Following<F> {
    follow: Box<F>,
    /// Who waits; none if they were told that nobody knows.
    told: Option<oneshot::Sender<Result<(), Refused<F>>>>,
    /// Keys of the host that it writes.
    of_host: Vec<Key>,
}

impl<F: Follow> Following<F> {
    pub(super) fn new(
        follow: Box<F>,
        told: oneshot::Sender<Result<(), Refused<F>>>,
        of_host: Vec<Key>,
    ) -> Self {
        Self {
            follow,
            told: Some(told),
            of_host,
        }
    }
}

impl<F: Follow> Pending for Following<F> {
    fn is_wanted(&self) -> bool {
        self.follow.is_wanted()
    }

    fn committed(self: Box<Self>, written: &Written) {
        if !self.of_host.is_empty() {
            written.announce(self.of_host);
        }
        if let Some(told) = self.told {
            // Who waits may be gone; what follows does so still.
            let _ = told.send(Ok(()));
        }
        tell(self.follow, Ok(()));
    }

    fn refused(self: Box<Self>, error: CommitError) {
        if let Some(told) = self.told {
            let _ = told.send(Err((error, self.follow)));
        }
    }

    fn overdue(&mut self) {
        let tell = self.follow.overdue();
        if let Some(told) = self.told.take() {
            let _ = told.send(Ok(()));
        }
        caught(tell);
    }
}

impl Commit {
    pub(super) fn new(request: Option<Request>, pending: Box<dyn Pending>) -> Self {
        Self {
            request: request.map(Box::new),
            since: Instant::now(),
            was_sent: false,
            pending,
            counted: None,
        }
    }

    /// It is not committed.
    pub(super) fn refuse(self, error: CommitError) {
        self.pending.refused(error);
    }

    /// Whoever has waited for it for so long is told that nobody knows what becomes of it.
    pub(super) fn give_up_after(&mut self, patience: Duration) {
        if self.since.elapsed() >= patience && self.counted.take().is_some() {
            self.pending.overdue();
        }
    }

    /// Whether somebody waits for it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.counted.is_some()
    }

    /// What is sent for it.
    fn command(&self, scripts: &Scripts, config: &config::Store) -> Option<Cmd> {
        let request = self.request.as_deref()?;
        Some(match self.is_waited_for() {
            true => request.command.clone(),
            false => scripts.settle(request, config),
        })
    }

    /// Redis has said what came of it.
    pub(super) fn answered(self, answer: Result<(), CommitError>, signals: &Signals) {
        match answer {
            Ok(()) => self.pending.committed(&signals.written),
            Err(error) => self.pending.refused(error),
        }
    }
}

impl Commits {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            some: Notify::new(),
            under_way: Arc::default(),
        }
    }

    /// One more, which is given back if nothing is committed any more.
    pub(super) fn push(&self, mut commit: Commit) -> Result<(), Commit> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(commit);
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        commit.counted = Some(Counted(self.under_way.clone()));
        waiting.commits.push_back(commit);
        drop(waiting);
        self.some.notify_one();
        Ok(())
    }

    /// Nothing is committed any more.
    pub(super) fn close(&self) {
        self.waiting.lock().is_closed = true;
    }

    /// How many wait to be sent, or to be answered.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Waits until there may be some.
    pub(super) async fn some(&self) {
        self.some.notified().await;
    }

    /// So many at `most` of those that wait to be sent.
    pub(super) fn take(&self, most: usize) -> Vec<Commit> {
        let commits = &mut self.waiting.lock().commits;
        let most = most.min(commits.len());
        commits.drain(..most).collect()
    }
}

/// Refuses those that were not sent yet and are not wanted any more.
pub(super) fn drop_unwanted(commits: &mut Vec<Commit>) {
    let is_unwanted = |commit: &mut Commit| !commit.was_sent && !commit.pending.is_wanted();
    for commit in commits.extract_if(.., is_unwanted) {
        commit.refuse(CommitError::Outdated);
    }
}

/// Sends commits, and says what came of each. An error says that nobody knows.
pub(super) async fn send(
    redis: &mut MultiplexedConnection,
    commits: &mut [Commit],
    scripts: &Scripts,
    quota: &config::Store,
    refusals: &Rarely,
) -> RedisResult<Vec<Result<(), CommitError>>> {
    let mut pipeline = Pipeline::with_capacity(commits.len());
    pipeline.ignore_errors();
    for commit in &mut *commits {
        commit.was_sent = true;
        if let Some(command) = commit.command(scripts, quota) {
            pipeline.add_command(command);
        }
    }
    let answers: Vec<RedisResult<Vec<String>>> = match pipeline.is_empty() {
        true => Vec::new(),
        false => pipeline.query_async(redis).await?,
    };
    let mut answers = answers.into_iter();
    let answer = |commit: &Commit| match &commit.request {
        Some(_) => answers
            .next()
            .map_or(Ok(Err(CommitError::Conflict)), |answer| {
                came_to(answer, quota, refusals)
            }),
        None => Ok(Ok(())),
    };
    commits.iter().map(answer).collect()
}

/// What a commit came to, by the words of its script.
fn came_to(
    answer: RedisResult<Vec<String>>,
    quota: &config::Store,
    refusals: &Rarely,
) -> RedisResult<Result<(), CommitError>> {
    let words = match answer {
        Ok(words) => words,
        Err(error) if is_refused(&error) => return Ok(Err(refused(&error, refusals))),
        Err(error) => return Err(error),
    };
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let over = |budget, allowed: String, bucket: &str| CommitError::OverQuota {
        budget,
        allowed,
        of: QuotaOf::Bucket(Bucket::parse(bucket).to_string()),
    };
    Ok(match words[..] {
        ["done"] => Ok(()),
        ["outdated"] => Err(CommitError::Outdated),
        ["number", bucket, key, reason] => Err(CommitError::NoNumber {
            bucket: Bucket::parse(bucket).to_string(),
            key: key.to_owned(),
            reason: match reason {
                "range" => OUT_OF_RANGE,
                _ => NO_NUMBER,
            },
        }),
        ["bucket_keys", bucket] => Err(over("bucket_keys", quota.bucket_keys.to_string(), bucket)),
        ["bucket_bytes", bucket] => {
            Err(over("bucket_bytes", quota.bucket_bytes.to_string(), bucket))
        }
        ["shared_bytes"] => Err(CommitError::OverQuota {
            budget: "shared_bytes",
            allowed: quota.shared_bytes.to_string(),
            of: QuotaOf::Shared,
        }),
        // What came of one that was refused before is seen when the call runs again.
        _ => Err(CommitError::Conflict),
    })
}

fn refused(error: &RedisError, refusals: &Rarely) -> CommitError {
    refusals.say(|| tracing::warn!("the store's Redis refuses commits: {error}"));
    CommitError::Unavailable("the store's Redis refuses it".into())
}
