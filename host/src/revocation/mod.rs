//! Tokens that are good no more although they have not expired: a backend has taken them back.
//!
//! A revocation is a row in a bucket of the store that the host keeps ([`rows`]), so that it outlives the
//! process and reaches all servers whose store is one. What is in force is in memory: a token is held against
//! it without waiting. Who ends the connections that came with such tokens is `dispatch/revocations.rs`.

mod rows;

use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::HashMap;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub(crate) use rows::NotKept;
use rows::Rows;

use crate::{store::Store, user::User};

/// What names a token may be known by are no longer than this; else it cannot be revoked by them.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// What a revocation takes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Revoked {
    /// The tokens of the user with this id, of those that were issued by then.
    User(String),
    /// The token with this id (`jti`).
    TokenId(String),
    /// The tokens of this session at their issuer (`sid`).
    Session(String),
}

impl Revoked {
    /// What it is called by.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::TokenId(name) | Self::Session(name) => name,
        }
    }
}

/// A revocation. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// What it takes back.
    pub what: Revoked,
    /// When it was asked for.
    pub at: u64,
    /// How long it is in force.
    pub until: u64,
}

/// The revocations that are in force.
#[derive(Default)]
pub(crate) struct Revocations {
    known: RwLock<Known>,
    /// How many there are: nobody waits for a lock where that is none.
    count: AtomicUsize,
    rows: Rows,
    /// Wakes who ends connections.
    news: Notify,
}

#[derive(Default)]
struct Known {
    users: HashMap<Box<str>, Times>,
    token_ids: HashMap<Box<str>, Times>,
    sessions: HashMap<Box<str>, Times>,
}

/// The times of a revocation.
#[derive(Clone, Copy)]
struct Times {
    at: u64,
    until: u64,
}

impl Revocations {
    /// Whether the token that says so much of its user is revoked at this time, in seconds since 1970.
    pub(crate) fn have(&self, user: &User, now: u64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let known = self.known.read();
        let in_force = |times: Option<&Times>| times.is_some_and(|times| now < times.until);
        let token = &user.token;
        let of_user = known.users.get(user.id.as_str());
        // One that does not say when it was issued may be an old one.
        let is_older = |times: &&Times| token.issued.is_none_or(|issued| issued <= times.at);
        in_force(of_user.filter(is_older))
            || in_force(token.id.as_ref().and_then(|id| known.token_ids.get(id)))
            || in_force(token.session.as_ref().and_then(|id| known.sessions.get(id)))
    }

    /// It is in force from now on, and kept in the store. Returns when that is durable; blocks.
    pub(crate) fn keep(&self, store: &Store, revocation: Revocation) -> Result<(), NotKept> {
        self.rows.keep(store, &revocation)?;
        self.add(revocation);
        Ok(())
    }

    /// It is in force from now on.
    fn add(&self, Revocation { what, at, until }: Revocation) {
        let mut known = self.known.write();
        let of_kind = match &what {
            Revoked::User(_) => &mut known.users,
            Revoked::TokenId(_) => &mut known.token_ids,
            Revoked::Session(_) => &mut known.sessions,
        };
        let times = of_kind.entry(what.name().into());
        let times = times.or_insert(Times { at, until });
        // Of two, the one that came later may have been asked for earlier, by another server's clock.
        *times = Times {
            at: times.at.max(at),
            until: times.until.max(until),
        };
        self.count.store(known.count(), Ordering::Release);
        drop(known);
        self.news.notify_one();
    }

    /// Forgets those that are in force no more.
    pub(crate) fn expire(&self, now: u64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut known = self.known.write();
        let Known {
            users,
            token_ids,
            sessions,
        } = &mut *known;
        for of_kind in [users, token_ids, sessions] {
            of_kind.retain(|_, times| now < times.until);
        }
        self.count.store(known.count(), Ordering::Release);
    }

    /// Waits until there is one that was not there before.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Adds those that the store has, and this server does not know yet. Blocks.
    pub(crate) fn read(&self, store: &Store) -> Result<(), NotKept> {
        self.rows.read(store, |revocation| self.add(revocation))
    }

    /// Whether all that the store has are known, and no other server adds any.
    pub(crate) fn are_complete(&self) -> bool {
        self.rows.are_complete()
    }

    /// Whether there may be some that this server has not read yet, since the store could not be asked.
    pub(crate) fn are_unknown(&self) -> bool {
        self.rows.are_unread()
    }
}

impl Known {
    fn count(&self) -> usize {
        self.users.len() + self.token_ids.len() + self.sessions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::{TokenClaims, UserId};

    const AT: u64 = 1000;

    fn user(id: &str, issued: Option<u64>, jti: Option<&str>, sid: Option<&str>) -> User {
        User {
            id: UserId::from_text(id).unwrap(),
            username: None,
            roles: Vec::new(),
            token: TokenClaims {
                issued,
                id: jti.map(Into::into),
                session: sid.map(Into::into),
                ..TokenClaims::default()
            },
        }
    }

    fn revoked(what: Revoked) -> Revocations {
        let revocations = Revocations::default();
        let until = AT + 100;
        revocations.add(Revocation {
            what,
            at: AT,
            until,
        });
        revocations
    }

    #[test]
    fn of_a_user_those_are_revoked_that_were_issued_by_then() {
        let revocations = revoked(Revoked::User("42".into()));
        for (issued, is_revoked) in [
            (None, true),
            (Some(AT - 1), true),
            (Some(AT), true),
            (Some(AT + 1), false),
        ] {
            let user = user("42", issued, None, None);
            assert_eq!(revocations.have(&user, AT), is_revoked, "{issued:?}");
        }
        assert!(!revocations.have(&user("7", None, Some("42"), Some("42")), AT));
    }

    #[test]
    fn names_of_one_kind_are_none_of_another() {
        let whose = user("a", Some(AT + 1), Some("b"), Some("c"));
        for (what, is_revoked) in [
            (Revoked::TokenId("b".into()), true),
            (Revoked::Session("c".into()), true),
            (Revoked::TokenId("c".into()), false),
            (Revoked::Session("b".into()), false),
            (Revoked::TokenId("a".into()), false),
        ] {
            assert_eq!(
                revoked(what.clone()).have(&whose, AT),
                is_revoked,
                "{what:?}"
            );
        }
    }

    #[test]
    fn one_is_in_force_until_its_time_is_over_and_then_forgotten() {
        let revocations = revoked(Revoked::User("42".into()));
        let user = user("42", None, None, None);
        assert!(revocations.have(&user, AT + 99) && !revocations.have(&user, AT + 100));
        revocations.expire(AT + 99);
        assert_eq!(revocations.known.read().count(), 1);
        revocations.expire(AT + 100);
        assert_eq!(revocations.known.read().count(), 0);
    }

    #[test]
    fn of_two_that_are_the_same_the_one_that_holds_more_counts() {
        let revocations = revoked(Revoked::User("42".into()));
        let what = Revoked::User("42".into());
        revocations.add(Revocation {
            what,
            at: AT - 5,
            until: AT + 50,
        });
        let user = user("42", Some(AT), None, None);
        assert!(revocations.have(&user, AT + 99));
    }
}
