//! `POST /api/v1/revocations`: tokens are good no more from now on.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use jsonwebtoken::get_current_timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{
    auth::Backend,
    body::{JsonBody, object},
};
use crate::{
    error::WireError,
    revocation::{MAX_NAME_BYTES, NotKept, Revocation, Revoked},
    settings,
    store::{CommitError, Store},
    units::duration,
    user::UserId,
};

/// How long a revocation is kept where nothing is said of that.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    user: Option<serde_json::Value>,
    token_id: Option<String>,
    session: Option<String>,
    /// For how long, and the leeway of tokens; as long as the tokens live, at least.
    #[serde(
        default,
        rename = "for",
        deserialize_with = "duration::deserialize_some"
    )]
    kept: Option<Duration>,
}

/// The answer. Times are in seconds since 1970, as tokens have them.
#[derive(Serialize)]
pub(super) struct Done {
    /// Of a user's tokens, those are revoked that were issued up to then.
    at: u64,
    /// How long that is in force.
    until: u64,
}

/// Answers when it is durable, and in force here.
pub(super) async fn revoke(
    backend: Backend,
    State(settings): State<settings::Current>,
    State(store): State<Arc<Store>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Done>, WireError> {
    backend.may(backend.rights.revoke(), "revoke")?;
    let asked: Asked = object(&body)?;
    let settings = settings.load_full();
    let Some(verifier) = &settings.verifier else {
        let message = "tokens are not checked here: [auth] enabled is false";
        return Err(WireError::new("invalid_payload", message));
    };
    let at = get_current_timestamp();
    // Whole seconds, and not too few; a token is good for the leeway after its expiry, too.
    let kept = asked.kept.unwrap_or(KEPT);
    let seconds = kept.as_secs() + u64::from(kept.subsec_nanos() > 0);
    let until = at + seconds + verifier.leeway();
    let what = asked.what()?;
    let revocation = Revocation { what, at, until };
    let revocations = verifier.revocations().clone();
    let keeping = spawn_blocking(move || revocations.keep(&store, revocation)).await;
    let kept = keeping.map_err(|_| WireError::new("internal", "the server failed"))?;
    kept.map_err(|error| not_kept(&error))?;
    Ok(Json(Done { at, until }))
}

impl Asked {
    fn what(self) -> Result<Revoked, WireError> {
        let what = match (self.user, self.token_id, self.session) {
            (Some(user), None, None) => {
                let id = UserId::from_json(&user)
                    .ok_or_else(|| invalid("the user's id is not valid"))?;
                Revoked::User(id.as_str().to_owned())
            }
            (None, Some(id), None) => Revoked::TokenId(id),
            (None, None, Some(id)) => Revoked::Session(id),
            _ => return Err(invalid("say one of user, token_id and session")),
        };
        match (1..=MAX_NAME_BYTES).contains(&what.name().len()) {
            true => Ok(what),
            false => Err(invalid(format!("it has 1 to {MAX_NAME_BYTES} bytes"))),
        }
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> WireError {
    WireError::new("invalid_payload", message)
}

/// Nothing is revoked that would be forgotten.
fn not_kept(error: &NotKept) -> WireError {
    tracing::error!("a revocation was refused: {error}");
    match error {
        NotKept::Commit(CommitError::OverQuota { budget, .. }) => {
            let message = format!("there are as many revocations as the store takes ({budget})");
            WireError::temporary("store_unavailable", message)
        }
        _ => WireError::temporary("store_unavailable", "the store does not take it"),
    }
}
