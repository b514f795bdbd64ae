//! What claims say: whose a token is, and when it is good. A claim that is read and that is not what
//! it should be is a reason to refuse the token, and never taken for one that is not there.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::TokenError;
use crate::{
    config,
    revocation::MAX_NAME_BYTES,
    user::{MAX_ROLE_BYTES, MAX_ROLES, TokenClaims, User, UserId, is_role},
};

/// A longer name is refused: it is kept with the connection, and plugins get it with every event.
const MAX_USERNAME_BYTES: usize = 1024;

/// The end of the year 9999, in seconds since 1970. A later time was written in milliseconds.
const LATEST: u64 = 253_402_300_799;

/// The largest integer that every double up to it can tell from its neighbours.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads claims as it is configured.
pub(super) struct Reader {
    id: Vec<String>,
    username: Vec<String>,
    roles: Vec<String>,
    issuer: Option<String>,
    /// Tokens have to name one of them; none: whoever they are for.
    audiences: Vec<String>,
    /// What stands before the ids of its users, so that nobody is taken for one of another issuer.
    id_prefix: String,
    require_exp: bool,
    /// In seconds.
    leeway: u64,
}

impl Reader {
    pub(super) fn new(config: &config::Auth) -> Self {
        Self {
            id: config.id_claims.clone(),
            username: config.username_claims.clone(),
            roles: config.role_claims.clone(),
            issuer: config.issuer.clone(),
            audiences: config.audience.iter().cloned().collect(),
            id_prefix: String::new(),
            require_exp: config.require_exp,
            leeway: config.leeway.as_secs(),
        }
    }

    pub(super) fn of_issuer(issuer: &config::Issuer, config: &config::Auth) -> Self {
        let or_of_all =
            |own: &Option<Vec<String>>, all: &[String]| own.clone().unwrap_or_else(|| all.to_vec());
        Self {
            id: or_of_all(&issuer.id_claims, &config.id_claims),
            username: or_of_all(&issuer.username_claims, &config.username_claims),
            roles: or_of_all(&issuer.role_claims, &config.role_claims),
            issuer: Some(issuer.issuer.clone()),
            audiences: issuer.audiences.clone(),
            id_prefix: issuer.id_prefix.clone(),
            ..Self::new(config)
        }
    }

    /// In seconds.
    pub(super) fn leeway(&self) -> u64 {
        self.leeway
    }

    /// Whose a token with these claims is, if it is good at `now`, in seconds since 1970.
    pub(super) fn user(&self, claims: &Map<String, Value>, now: u64) -> Result<User, TokenError> {
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        if let Some(from) = time(claims, "nbf", f64::ceil)?
            && now.saturating_add(self.leeway) < from
        {
            return Err(invalid("it is not good yet (nbf)"));
        }
        let user = User {
            id: self.id(claims)?,
            username: self.username(claims)?,
            roles: self.roles(claims)?,
            token: TokenClaims {
                expires: self.expiry(claims)?,
                // Nothing is decided by these but what a revocation is about: one that says nothing that is
                // understood is taken for one that may be meant.
                issued: time(claims, "iat", f64::floor).ok().flatten(),
                id: revocable(claims, "jti"),
                session: revocable(claims, "sid"),
                ..TokenClaims::default()
            },
        };
        // Last: a client that is told so tries to get a fresh one.
        match user.token.expires {
            Some(expires) if now >= expires.saturating_add(self.leeway) => Err(TokenError::Expired),
            _ => Ok(user),
        }
    }

    fn expiry(&self, claims: &Map<String, Value>) -> Result<Option<u64>, TokenError> {
        let expires = time(claims, "exp", f64::floor)?;
        if expires.is_none() && self.require_exp {
            return Err(invalid("it never expires (no exp)"));
        }
        Ok(expires)
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        match &self.issuer {
            Some(issuer) if claims.get("iss").and_then(Value::as_str) != Some(issuer) => {
                Err(invalid("it is from another issuer (iss)"))
            }
            _ => Ok(()),
        }
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        if self.audiences.is_empty() {
            return Ok(());
        }
        let named = claims.get("aud").and_then(texts).unwrap_or_default();
        let is_ours = |named: &&str| self.audiences.iter().any(|own| own == named);
        match named.iter().any(is_ours) {
            true => Ok(()),
            false => Err(invalid("it is for another audience (aud)")),
        }
    }

    fn id(&self, claims: &Map<String, Value>) -> Result<UserId, TokenError> {
        let id = first(&self.id, claims)
            .ok_or_else(|| TokenError::Invalid(format!("no claim of {:?}", self.id)))?;
        let id = UserId::from_json(id);
        let id = match &*self.id_prefix {
            "" => id,
            prefix => id.and_then(|id| UserId::from_text(&format!("{prefix}{}", id.as_str()))),
        };
        id.ok_or_else(|| invalid("the user id is neither a short text nor a whole number"))
    }

    fn username(&self, claims: &Map<String, Value>) -> Result<Option<String>, TokenError> {
        match first(&self.username, claims) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) if name.len() <= MAX_USERNAME_BYTES => Ok(Some(name.clone())),
            Some(_) => Err(invalid("the user's name is not a text of up to 1024 bytes")),
        }
    }

    /// In the order of the token, each once.
    fn roles(&self, claims: &Map<String, Value>) -> Result<Vec<String>, TokenError> {
        let claims = self.roles.iter().filter_map(|name| claims.get(name));
        let mut roles = Vec::new();
        let mut known = HashSet::new();
        for claim in claims.filter(|claim| !claim.is_null()) {
            let named = texts(claim).ok_or_else(|| invalid("a role is not a text"))?;
            for role in named {
                check_role(role)?;
                if !known.insert(role) {
                    continue;
                }
                if roles.len() == MAX_ROLES {
                    let reason = format!("it has more than {MAX_ROLES} roles");
                    return Err(TokenError::Invalid(reason));
                }
                roles.push(role.to_owned());
            }
        }
        Ok(roles)
    }
}

fn check_role(role: &str) -> Result<(), TokenError> {
    if role.len() > MAX_ROLE_BYTES {
        let reason = format!("a role has more than {MAX_ROLE_BYTES} bytes");
        return Err(TokenError::Invalid(reason));
    }
    if !is_role(role) {
        return Err(invalid("a role is empty or has control characters"));
    }
    Ok(())
}

/// What a token is known by, if it can be revoked by that.
fn revocable(claims: &Map<String, Value>, name: &str) -> Option<Box<str>> {
    let name = claims.get(name)?.as_str()?;
    (1..=MAX_NAME_BYTES)
        .contains(&name.len())
        .then(|| name.into())
}

fn invalid(reason: &str) -> TokenError {
    TokenError::Invalid(reason.to_owned())
}

/// The first of these claims that is there.
fn first<'a>(names: &[String], claims: &'a Map<String, Value>) -> Option<&'a Value> {
    names.iter().find_map(|name| claims.get(name))
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// The claim of this name as whole seconds since 1970. The RFC allows fractions, which are `round`ed.
fn time(
    claims: &Map<String, Value>,
    name: &str,
    round: fn(f64) -> f64,
) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let fraction = || {
        value
            .as_f64()
            .filter(|time| (0.0..=MAX_EXACT).contains(time))
    };
    let seconds = value.as_u64().or_else(|| Some(round(fraction()?) as u64));
    match seconds {
        Some(seconds) if seconds <= LATEST => Ok(Some(seconds)),
        _ => Err(TokenError::Invalid(format!(
            "{name} is not a time in seconds since 1970"
        ))),
    }
}
