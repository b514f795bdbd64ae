//! Which backend is calling, and what it may do.

use std::{fmt, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Api;
use crate::{
    config::Secret,
    error::WireError,
    grant::{Grant, Grants},
};

/// A caller whose key is known.
pub(super) struct Backend {
    /// Which key it is.
    pub key: KeyId,
    /// What its key allows.
    pub rights: Grants,
}

/// Tells API keys apart, and nobody what they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// Of a key's bytes.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// As text.
    pub(super) fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
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
        let settings = api.settings.load();
        let mut rights = None;
        // All keys are compared, each in constant time: the answer's time tells nothing.
        for known in &settings.api_keys {
            if equal(known.key.expose(), key) {
                rights = Some(known.rights.clone());
            }
        }
        if equal(api.local_key.key(), key) {
            rights = Some(api.local_key.0.1.clone());
        }
        let rights =
            rights.ok_or_else(|| WireError::new("unauthorized", "this API key is not known"))?;
        Ok(Self {
            key: KeyId::of(key.as_bytes()),
            rights,
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
