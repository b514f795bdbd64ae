//! Whose a client is, by its token, and what of that plugins are granted.

use crate::{
    address::ClientAddress, auth::IsGranted, error::WireError, settings::Settings, user::User,
};

/// The user that a client's token names: nobody if there is none and none is needed. Waits until its key is here, if
/// that has to be fetched; not long.
pub(crate) async fn user_of(
    token: Option<&str>,
    is_granted: IsGranted<'_>,
    settings: &Settings,
    address: ClientAddress,
) -> Result<Option<User>, WireError> {
    let (Some(token), Some(verifier)) = (token, &settings.verifier) else {
        return match settings.anonymous {
            true => Ok(None),
            false => Err(WireError::new("unauthorized", "a token is needed")),
        };
    };
    if let Some(wait) = verifier.wait_for_key(token) {
        wait.await;
    }
    let user = verifier.verify_for_plugins(token, is_granted);
    let user = user.map_err(|error| {
        tracing::debug!(%address, "connection refused: {error}");
        error.to_wire()
    })?;
    Ok(Some(user))
}
