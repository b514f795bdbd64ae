//! JSON Web Tokens: who a client is, from a token signed with `JWT_SECRET`.

mod claims;
mod token;

use std::time::Duration;

use jsonwebtoken::{DecodingKey, EncodingKey, Header, get_current_timestamp};
use serde_json::{Map, Value};

use crate::{config, error::WireError, user::User};

/// Checks tokens.
pub struct Verifier {
    key: DecodingKey,
    claims: claims::Reader,
}

/// Why a token is refused. The text is for the log; it never holds the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It was never good.
    #[error("the token is not valid: {0}")]
    Invalid(String),
}

impl TokenError {
    /// The stable code that clients see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired => "token_expired",
            Self::Invalid(_) => "unauthorized",
        }
    }

    /// What clients see. What exactly is wrong with a token is nobody's business but the log's.
    pub(crate) fn to_wire(&self) -> WireError {
        let message = match self {
            Self::Expired => "the token has expired",
            Self::Invalid(_) => "the token is not valid",
        };
        WireError::new(self.code(), message)
    }
}

impl Verifier {
    /// Checks tokens signed with `secret`.
    pub fn new(secret: &[u8], config: &config::Auth) -> Self {
        Self {
            key: DecodingKey::from_secret(secret),
            claims: claims::Reader::new(config),
        }
    }

    /// The user that a token names.
    pub fn verify(&self, token: &str) -> Result<User, TokenError> {
        self.verify_at(token, get_current_timestamp())
    }

    /// The same at another time than now, in seconds since 1970.
    fn verify_at(&self, token: &str, now: u64) -> Result<User, TokenError> {
        let claims = token::open(token, &self.key)
            .map_err(|reason| TokenError::Invalid(reason.to_owned()))?;
        self.claims.user(&claims, now)
    }
}

/// Signs a token for `user` that is good for `lifetime`.
pub fn sign(user: &User, secret: &[u8], lifetime: Duration, config: &config::Auth) -> String {
    let now = get_current_timestamp();
    let mut claims = Map::new();
    let mut claim = |name: Option<&String>, value: Value| {
        if let Some(name) = name {
            claims.insert(name.clone(), value);
        }
    };
    claim(config.id_claims.first(), user.id.as_str().into());
    claim(config.username_claims.first(), user.username.clone().into());
    claim(
        config.role_claims.first(),
        user.roles.first().cloned().into(),
    );
    if user.roles.len() > 1 {
        claim(config.role_claims.last(), user.roles.clone().into());
    }
    claim(
        config.issuer.as_ref().map(|_| "iss".to_owned()).as_ref(),
        config.issuer.clone().into(),
    );
    claim(
        config.audience.as_ref().map(|_| "aud".to_owned()).as_ref(),
        config.audience.clone().into(),
    );
    claim(Some(&"iat".to_owned()), now.into());
    claim(Some(&"exp".to_owned()), (now + lifetime.as_secs()).into());
    claims.retain(|_, value| !value.is_null());
    jsonwebtoken::encode(
        &Header::new(token::ALGORITHM),
        &claims,
        &EncodingKey::from_secret(secret),
    )
    .expect("claims of strings and numbers always serialise")
}

#[cfg(test)]
mod tests;
