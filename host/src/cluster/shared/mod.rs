//! What servers count, keep and take turns at together, while somebody waits for the answer. Where Redis does not give
//! it soon, each server goes on by itself. Where it refuses to, this is so for what it was asked for alone: there may be
//! something else under a key.

mod requests;
mod tokens;
mod turns;

pub(crate) use self::{
    requests::{Begun, Bounds, Request},
    tokens::Bucket,
    turns::{Place, Turns},
};

use std::time::Duration;

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use crate::rarely::Rarely;

/// How long somebody waits for an answer of Redis.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nobody asks when there was none. Who asks first then is the only one who waits.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether Redis is asked.
#[derive(Default)]
pub(super) struct Asking {
    /// Nobody does before; none while it answers.
    pause: Mutex<Option<Instant>>,
    refusals: Rarely,
}

impl Asking {
    /// Whether to ask now.
    fn may(&self) -> bool {
        let mut pause = self.pause.lock();
        let Some(until) = *pause else {
            return true;
        };
        let now = Instant::now();
        let is_over = until <= now;
        if is_over {
            *pause = Some(now + PATIENCE + PAUSE);
        }
        is_over
    }

    /// What came of it.
    fn answered(&self, is_answered: bool) {
        *self.pause.lock() = (!is_answered).then(|| Instant::now() + PAUSE);
    }

    /// Redis has answered, if not with what it was asked for.
    fn is_refused(&self, error: &RedisError) {
        self.answered(true);
        self.refusals.say(|| {
            tracing::warn!(%error, "Redis refuses what servers count or order together: this server goes on by itself there");
        });
    }
}

/// Whether Redis has answered, if not with what it was asked for.
fn is_answer(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType
    )
}

impl Cluster {
    /// Waits until Redis may be asked again.
    pub(crate) async fn redis_is_back(&self) {
        let mut rounds = self.link.round.subscribe();
        // It is there as long as this server's part is.
        let _ = rounds.wait_for(|round| round.has_caught_up).await;
        sleep(PAUSE).await;
    }

    /// What Redis answers, soon; none if it does not, or is away.
    async fn ask_redis<T>(
        &self,
        ask: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Option<T> {
        if !self.link.round.borrow().has_caught_up || !self.asking.may() {
            return None;
        }
        let asked = async { ask(self.link.shared().await?).await };
        let answer = match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) if is_answer(&error) && !self.link.is_elsewhere(&error) => {
                self.asking.is_refused(&error);
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "Redis does not answer: this server goes on by itself");
                None
            }
            Err(_) => {
                tracing::debug!("Redis takes too long: this server goes on by itself");
                None
            }
        };
        self.asking.answered(answer.is_some());
        if answer.is_none() {
            self.link.forget_shared().await;
        }
        answer
    }
}
