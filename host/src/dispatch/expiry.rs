//! Connections end with the tokens of their users.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use jsonwebtoken::get_current_timestamp;
use serde::Serialize;
use tokio::{
    task::yield_now,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::{
    connection::Connection,
    deadlines::{Due, Expiring, NEVER},
    error::WireError,
};

/// Tokens expire at whole seconds.
const TICK: Duration = Duration::from_secs(1);

/// So many connections are told or ended before others get their turn: a crowd that came together
/// has tokens that expire together.
const IN_A_ROW: usize = 64;

/// The details of the warning.
#[derive(Serialize)]
struct Soon {
    expires_in_ms: u64,
}

impl Dispatcher {
    /// Has a connection end with the token of its user. To be called whenever it becomes a user's.
    pub(super) fn follow_expiry(&self, connection: &Arc<Connection>) {
        let identity = connection.identity();
        let Some(user) = &identity.user else {
            connection.set_deadline(None);
            return;
        };
        let at = user.token.expires.unwrap_or(NEVER);
        let expiring: Weak<dyn Expiring> = Arc::<Connection>::downgrade(connection);
        connection.set_deadline(Some(self.deadlines.add(at, expiring)));
        // Who ends those that are revoked may have looked before it was there to be seen.
        let settings = self.settings.load();
        if settings
            .verifier
            .as_ref()
            .is_some_and(|verifier| verifier.has_revoked(user))
        {
            connection.expire();
        }
    }

    /// Warns and ends connections whose time has come, until `stop`.
    pub(crate) async fn end_with_tokens(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => self.end_due(get_current_timestamp()).await,
            }
        }
    }

    async fn end_due(&self, now: u64) {
        let Some(expiry) = self.settings.load().expiry else {
            return;
        };
        let (warning, leeway) = (expiry.warning.as_secs(), expiry.leeway.as_secs());
        let Due { soon, over } = self.deadlines.due(now, warning, leeway);
        for some in soon.chunks(IN_A_ROW) {
            for (at, connection) in some {
                if let Some(connection) = still_due(connection, *at) {
                    connection.warn(&soon_over(at.saturating_sub(now)));
                }
            }
            yield_now().await;
        }
        for some in over.chunks(IN_A_ROW) {
            for (at, connection) in some {
                if let Some(connection) = still_due(connection, *at) {
                    connection.expire();
                }
            }
            yield_now().await;
        }
    }
}

/// The connection, unless it is gone or has authenticated meanwhile.
fn still_due(connection: &Weak<dyn Expiring>, at: u64) -> Option<Arc<dyn Expiring>> {
    let connection = connection.upgrade()?;
    connection.expires_at(at).then_some(connection)
}

fn soon_over(seconds: u64) -> WireError {
    let message = "the token expires soon: authenticate with a fresh one to stay connected";
    let details = Soon {
        expires_in_ms: seconds * 1000,
    };
    WireError::new("token_expired", message).with_details(&details)
}
