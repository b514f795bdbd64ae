//! Who may see the server by a page: by the password, or by the session that the password gave.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    address::ClientAddress,
    admission::{Limit, RateLimits},
    config::{self, KeyHash, PasswordHash},
    error::{ConnectError, WireError},
    guest::Scope,
    id,
    units::Rate,
};

/// So many passwords may be tried from one address, and after that one more every few seconds.
const ATTEMPTS: u32 = 10;
const WITHIN: Duration = Duration::from_secs(60);

/// So many may wait to be checked, one after the other: a check takes a core for a while.
const MAX_WAITING: usize = 16;

/// So many pages may come back without the password; whoever is one more takes the place of the oldest.
const MAX_SESSIONS: usize = 256;

/// How long they may, as with Node's stores.
const SESSION_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What pages compare, and know what to show by.
pub(super) const INVALID: &str = "invalid credentials";

/// What a page says of itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Credentials {
    username: Option<String>,
    password: Option<String>,
    session_id: Option<String>,
}

/// Decides who may come in.
pub(super) struct Login {
    username: String,
    password: PasswordHash,
    attempts: Arc<Limit>,
    waiting: Semaphore,
    turn: Arc<Semaphore>,
    sessions: Mutex<Sessions>,
}

/// Until when pages may come back, by the hash of what they show, so that nobody finds one by how long a look takes.
#[derive(Default)]
struct Sessions(HashMap<KeyHash, Instant>);

impl Sessions {
    fn add(&mut self, id: &str, now: Instant) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() >= MAX_SESSIONS {
            let oldest = self.0.iter().min_by_key(|(_, until)| **until);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.and_then(|id| self.0.remove(&id));
        }
        self.0.insert(KeyHash::of(id.as_bytes()), now + SESSION_AGE);
    }

    fn has(&self, id: &str, now: Instant) -> bool {
        let until = self.0.get(&KeyHash::of(id.as_bytes()));
        until.is_some_and(|until| *until > now)
    }
}

impl Login {
    pub(super) fn new(config: &config::Admin, limits: &RateLimits) -> Self {
        let rate = Rate::new(ATTEMPTS, WITHIN).expect("both are more than nothing");
        Self {
            username: config.username.clone(),
            password: config.password.clone(),
            attempts: limits.of_host("admin", Scope::Ip, rate),
            waiting: Semaphore::new(MAX_WAITING),
            turn: Arc::new(Semaphore::new(1)),
            sessions: Mutex::default(),
        }
    }

    /// Whether a page may come in, by its auth object. A page that gave the password gets the id of a session.
    pub(super) async fn admit(
        &self,
        auth: &str,
        address: ClientAddress,
    ) -> Result<Option<String>, ConnectError> {
        let invalid = || ConnectError::new(INVALID);
        let said: Credentials = serde_json::from_str(auth).map_err(|_| invalid())?;
        let session = said.session_id.as_ref();
        if session.is_some_and(|id| self.sessions.lock().has(id, Instant::now())) {
            return Ok(None);
        }
        let (Some(username), Some(password)) = (said.username, said.password) else {
            return Err(invalid());
        };
        self.attempts.check_address(address).map_err(too_often)?;
        let is_named = username.as_bytes().ct_eq(self.username.as_bytes());
        // Also for another name: nobody is to find the right one by how long the answer takes.
        let is_right = self.check(password).await.map_err(told)?;
        if !(bool::from(is_named) && is_right) {
            tracing::warn!(%address, "a wrong name or password at [admin]");
            return Err(invalid());
        }
        let id = id::random();
        self.sessions.lock().add(&id, Instant::now());
        Ok(Some(id))
    }

    /// Whether it is the password.
    async fn check(&self, password: String) -> Result<bool, WireError> {
        let busy = |_| WireError::temporary("rate_limited", "too many passwords are being checked");
        let _waiting = self.waiting.try_acquire().map_err(busy)?;
        let turn = self.turn.clone().acquire_owned().await;
        let hash = self.password.clone();
        let checked = spawn_blocking(move || {
            // Held to the end, also if nobody waits for the answer any more.
            let _turn = turn;
            hash.is_of(&password)
        });
        let failed = |_| WireError::new("internal", "the server failed");
        checked.await.map_err(failed)
    }
}

fn too_often(wait: Duration) -> ConnectError {
    let error = WireError::temporary("rate_limited", "too many passwords from this address");
    told(error.with_retry_after(wait))
}

/// A refusal that is told, although it is temporary: a page that tried again by itself would use up what its user may
/// try.
pub(super) fn told(error: WireError) -> ConnectError {
    ConnectError {
        is_temporary: false,
        ..error.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_and_are_no_more_than_they_may_be() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        sessions.add("first", at(0));
        assert!(sessions.has("first", at(1)) && !sessions.has("other", at(1)));
        let age = SESSION_AGE.as_secs();
        assert!(sessions.has("first", at(age - 1)) && !sessions.has("first", at(age)));
        for number in 1..=MAX_SESSIONS as u64 {
            sessions.add(&number.to_string(), at(number));
        }
        assert_eq!(sessions.0.len(), MAX_SESSIONS);
        let later = at(MAX_SESSIONS as u64);
        assert!(!sessions.has("first", later) && sessions.has("1", later));
        sessions.add("last", at(2 * age));
        assert_eq!(sessions.0.len(), 1, "those that have ended go");
    }
}
