//! Who a token names.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

/// A user, as `authenticated` shows them.
#[derive(Debug, Clone, Serialize)]
pub struct User {
    id: String,
    username: Option<String>,
    role: Option<String>,
    roles: Vec<String>,
}

/// Checks tokens.
#[derive(Clone)]
pub struct Tokens(Arc<(DecodingKey, Validation)>);

#[derive(Deserialize)]
struct Claims {
    sub: String,
    username: Option<String>,
    role: Option<String>,
}

impl User {
    /// The rooms that they are in.
    pub fn rooms(&self) -> Vec<String> {
        let roles = self.roles.iter().map(|role| format!("role:{role}"));
        [format!("user:{}", self.id)]
            .into_iter()
            .chain(roles)
            .collect()
    }
}

impl Tokens {
    /// Signed with `secret`.
    pub fn new(secret: &str) -> Self {
        let key = DecodingKey::from_secret(secret.as_bytes());
        Self(Arc::new((key, Validation::new(Algorithm::HS256))))
    }

    /// The user that a token names, or the code of the refusal.
    pub fn verify(&self, token: &str) -> Result<User, &'static str> {
        let (key, validation) = &*self.0;
        let token = jsonwebtoken::decode::<Claims>(token, key, validation);
        let claims = token.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => "token_expired",
            _ => "unauthorized",
        })?;
        let Claims {
            sub,
            username,
            role,
        } = claims.claims;
        Ok(User {
            id: sub,
            username,
            roles: role.iter().cloned().collect(),
            role,
        })
    }
}
