//! Connections end whose tokens are revoked.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::get_current_timestamp;
use tokio::{
    task::{spawn_blocking, yield_now},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::{
    auth::TokenError,
    revocation::{NotKept, Revocations},
};

/// How often it is looked what other servers, or this one before it was started anew, have revoked.
const LOOK: Duration = Duration::from_millis(500);

/// So many connections are looked at before others get their turn.
const IN_A_ROW: usize = 256;

impl Dispatcher {
    /// Has what is revoked be in force, and ends connections as their tokens are revoked, until `stop`.
    pub(crate) async fn end_revoked(
        self: Arc<Self>,
        revocations: Arc<Revocations>,
        stop: CancellationToken,
    ) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = revocations.news() => self.end_those(&revocations).await,
                _ = look.tick() => {
                    let read = self.read_revocations(&revocations).await;
                    tell_once(&mut failed, read);
                }
            }
        }
    }

    /// Has what the store says be in force.
    pub(crate) async fn read_revocations(
        &self,
        revocations: &Arc<Revocations>,
    ) -> Result<(), NotKept> {
        revocations.expire(get_current_timestamp());
        if revocations.are_complete() {
            return Ok(());
        }
        let (store, into) = (self.store.clone(), revocations.clone());
        let read = spawn_blocking(move || into.read(&store)).await;
        read.unwrap_or(Ok(()))
    }

    async fn end_those(&self, revocations: &Revocations) {
        let now = get_current_timestamp();
        let error = TokenError::Revoked.to_wire();
        let live = self.deadlines.all();
        for some in live.chunks(IN_A_ROW) {
            for connection in some.iter().filter_map(|connection| connection.upgrade()) {
                if connection.is_revoked(revocations, now) {
                    connection.warn(&error);
                    connection.expire();
                }
            }
            yield_now().await;
        }
    }
}

/// Says once that they cannot be read, and once that they can.
fn tell_once(failed: &mut bool, read: Result<(), NotKept>) {
    let was_failing = std::mem::replace(failed, read.is_err());
    match read {
        Err(error) if !was_failing => {
            tracing::error!("revoked tokens may be taken: the store cannot be read: {error}");
        }
        Ok(()) if was_failing => tracing::info!("what is revoked can be read again"),
        Ok(()) | Err(_) => {}
    }
}
