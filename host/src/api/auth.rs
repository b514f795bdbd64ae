//! Which backend is calling, and what it may do.

use std::{fmt, sync::Arc, time::SystemTime};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};
use subtle::ConstantTimeEq;

use super::{Api, audited::Audited, in_flight::Place};
use crate::{
    admission::rate_limited,
    audit::By,
    config::{KeyHash, Secret},
    error::WireError,
    grant::{Grant, Grants},
};

/// Who calls with the key of this run.
const COMMAND_LINE: &str = "this machine's command line";

/// A caller whose key is known.
pub(super) struct Backend {
    /// Which key it is.
    pub key: KeyHash,
    /// Whose, for logs.
    pub name: Arc<str>,
    /// What its key allows.
    pub rights: Grants,
    /// Its request is under way as long as it has this; none for this machine's own command line.
    _place: Option<Place>,
}

/// The key that the server makes for its own command line on this machine, for one run.
#[derive(Clone)]
pub struct LocalKey(Arc<(Secret, Grants)>);

impl LocalKey {
    /// A key that may look at plugins and reload them, or everything.
    pub fn new(key: String, all_rights: bool) -> Self {
        let rights = if all_rights {
            Grants::all()
        } else {
            Grants::from_iter([Grant::Admin])
        };
        Self(Arc::new((Secret::new(key), rights)))
    }

    /// The key itself.
    pub fn key(&self) -> &str {
        self.0.0.expose()
    }

    /// Whether a request with these headers shows it.
    pub(crate) fn is_sent_with(&self, headers: &HeaderMap) -> bool {
        sent_key(headers).is_some_and(|key| equal(self.key(), key))
    }
}

impl Backend {
    /// Refuses unless the key has the right.
    pub(super) fn may(&self, allowed: bool, right: impl fmt::Display) -> Result<(), WireError> {
        if allowed {
            return Ok(());
        }
        Err(self.lacks(right))
    }

    /// The refusal of a key without a right.
    pub(super) fn lacks(&self, right: impl fmt::Display) -> WireError {
        let message = format!("this API key does not have the right \"{right}\"");
        WireError::new("permission_denied", message)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Backend
where
    Api: FromRef<S>,
{
    type Rejection = WireError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WireError> {
        let api = Api::from_ref(state);
        let key = sent_key(&parts.headers)
            .ok_or_else(|| WireError::new("unauthorized", "send Authorization: Bearer KEY"))?;
        let hash = KeyHash::of(key.as_bytes());
        let is = |by: By| {
            if let Some(audited) = parts.extensions.get::<Audited>() {
                audited.is_by(by);
            }
        };
        if equal(api.local_key.key(), key) {
            is(By::Local);
            return Ok(Self {
                key: hash,
                name: COMMAND_LINE.into(),
                rights: api.local_key.0.1.clone(),
                _place: None,
            });
        }
        let settings = api.settings.load();
        let mut found = None;
        // All keys are compared, each in constant time: the answer's time tells nothing.
        for caller in &settings.api_keys {
            for known in &caller.key.keys {
                if known.hash.is(&hash) {
                    found = Some((caller, known));
                }
            }
        }
        let unknown = || WireError::new("unauthorized", "this API key is not known");
        let (caller, known) = found.ok_or_else(unknown)?;
        is(By::Key(caller.key.name.as_str().into()));
        if known.has_expired(SystemTime::now()) {
            return Err(WireError::new("key_expired", "this API key has expired"));
        }
        if let Some(limit) = &caller.limit {
            let taken = limit.check_everybody();
            taken.map_err(|wait| rate_limited("requests with this API key", wait))?;
        }
        Ok(Self {
            key: hash,
            name: caller.key.name.as_str().into(),
            rights: caller.key.rights.clone(),
            _place: Some(api.in_flight.take(&caller.key.name, caller.key.in_flight)?),
        })
    }
}

/// The key that these headers show.
fn sent_key(headers: &HeaderMap) -> Option<&str> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    // Of two, others may believe the other one.
    let sent = sent.next().filter(|_| sent.next().is_none())?;
    let (scheme, key) = sent.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
