//! JSON Web Tokens: who a client is, from a token signed with `JWT_SECRET`.

use std::{collections::HashSet, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde_json::{Map, Value};

use crate::{
    config,
    error::WireError,
    user::{MAX_ROLE_BYTES, MAX_ROLES, User, UserId},
};

/// The only algorithm: a token that names another, `none` among them, is refused.
const ALGORITHM: Algorithm = Algorithm::HS256;

/// Checks tokens.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
    claims: ClaimNames,
}

#[derive(Clone)]
struct ClaimNames {
    id: Vec<String>,
    username: Vec<String>,
    roles: Vec<String>,
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
    pub fn to_wire(&self) -> WireError {
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
        let mut validation = Validation::new(ALGORITHM);
        validation.leeway = config.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp"]);
        match &config.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                validation.required_spec_claims.insert("iss".to_owned());
            }
            None => validation.iss = None,
        }
        match &config.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        let claims = ClaimNames {
            id: config.id_claims.clone(),
            username: config.username_claims.clone(),
            roles: config.role_claims.clone(),
        };
        Self {
            key: DecodingKey::from_secret(secret),
            validation,
            claims,
        }
    }

    /// The user that a token names.
    pub fn verify(&self, token: &str) -> Result<User, TokenError> {
        let token = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                // The kind and not the error: some errors quote the token.
                kind => TokenError::Invalid(format!("{kind:?}")),
            })?;
        self.claims.user(&token.claims)
    }
}

impl ClaimNames {
    fn user(&self, claims: &Map<String, Value>) -> Result<User, TokenError> {
        let first = |names: &[String]| names.iter().find_map(|name| claims.get(name));
        let id = first(&self.id)
            .ok_or_else(|| TokenError::Invalid(format!("no claim of {:?}", self.id)))?;
        let id = UserId::from_json(id).ok_or_else(|| {
            TokenError::Invalid("the user id is neither a short text nor a whole number".to_owned())
        })?;
        let username = first(&self.username)
            .and_then(Value::as_str)
            .map(str::to_owned);
        Ok(User {
            id,
            username,
            roles: self.roles(claims)?,
        })
    }

    /// In the order of the token, each once.
    fn roles(&self, claims: &Map<String, Value>) -> Result<Vec<String>, TokenError> {
        let mut roles = Vec::new();
        let mut known = HashSet::new();
        for claim in self.roles.iter().filter_map(|name| claims.get(name)) {
            let listed = claim
                .as_array()
                .map_or(std::slice::from_ref(claim), Vec::as_slice);
            for role in listed.iter().filter_map(Value::as_str) {
                if role.len() > MAX_ROLE_BYTES {
                    let reason = format!("a role has more than {MAX_ROLE_BYTES} bytes");
                    return Err(TokenError::Invalid(reason));
                }
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

/// Signs a token for `user` that is good for `lifetime`.
pub fn sign(user: &User, secret: &[u8], lifetime: Duration, config: &config::Auth) -> String {
    let now = jsonwebtoken::get_current_timestamp();
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
        &Header::new(ALGORITHM),
        &claims,
        &EncodingKey::from_secret(secret),
    )
    .expect("claims of strings and numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"secret";

    fn verify(claims: Value, secret: &[u8], algorithm: Algorithm) -> Result<User, TokenError> {
        let key = EncodingKey::from_secret(secret);
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap();
        Verifier::new(SECRET, &config::Auth::default()).verify(&token)
    }

    fn user(mut claims: Value) -> Result<User, TokenError> {
        claims["exp"] = (jsonwebtoken::get_current_timestamp() + 60).into();
        verify(claims, SECRET, ALGORITHM)
    }

    #[test]
    fn claims_are_found_under_their_usual_names() {
        let user1 =
            user(serde_json::json!({"sub": "42", "username": "ada", "role": "admin"})).unwrap();
        let user2 =
            user(serde_json::json!({"userId": 42, "name": "ada", "roles": ["admin"]})).unwrap();
        for user in [user1, user2] {
            assert_eq!(user.rooms(), ["user:42", "role:admin"]);
            assert_eq!(user.username.as_deref(), Some("ada"));
        }
        let both = user(serde_json::json!({"id": 1, "role": "a", "roles": ["b", "a"]})).unwrap();
        assert_eq!(both.roles, ["a", "b"]);
    }

    #[test]
    fn a_token_has_a_bounded_number_of_roles_of_a_bounded_length() {
        let numbered = |count: usize| (0..count).map(|n| format!("role-{n}")).collect::<Vec<_>>();
        let with = |roles: &[String]| user(serde_json::json!({"sub": 1, "roles": roles}));
        assert_eq!(
            with(&numbered(MAX_ROLES)).unwrap().roles,
            numbered(MAX_ROLES)
        );
        let repeated = [numbered(MAX_ROLES), numbered(MAX_ROLES)].concat();
        assert_eq!(with(&repeated).unwrap().roles, numbered(MAX_ROLES));
        assert!(with(&["x".repeat(MAX_ROLE_BYTES)]).is_ok());
        for (roles, reason) in [
            (numbered(MAX_ROLES + 1), "it has more than 256 roles"),
            (numbered(300_000), "it has more than 256 roles"),
            (
                vec!["x".repeat(MAX_ROLE_BYTES + 1)],
                "a role has more than 256 bytes",
            ),
        ] {
            let error = with(&roles).unwrap_err();
            assert_eq!(error.code(), "unauthorized");
            assert_eq!(
                error.to_string(),
                format!("the token is not valid: {reason}")
            );
        }
    }

    #[test]
    fn a_token_without_a_usable_id_is_refused() {
        for id in [
            serde_json::json!(null),
            "".into(),
            1.5.into(),
            true.into(),
            "a\nb".into(),
        ] {
            assert_eq!(
                user(serde_json::json!({"sub": id})).unwrap_err().code(),
                "unauthorized",
                "{id}"
            );
        }
        assert_eq!(
            user(serde_json::json!({})).unwrap_err().code(),
            "unauthorized"
        );
    }

    #[test]
    fn only_fresh_tokens_of_the_right_key_and_algorithm_are_good() {
        let now = jsonwebtoken::get_current_timestamp();
        let at = |exp: u64| serde_json::json!({"sub": 1, "exp": exp});
        let code = |result: Result<User, TokenError>| result.err().map(|error| error.code());
        assert_eq!(code(verify(at(now + 60), SECRET, ALGORITHM)), None);
        assert_eq!(
            code(verify(at(now - 2), SECRET, ALGORITHM)),
            None,
            "within the leeway"
        );
        assert_eq!(
            code(verify(at(now - 60), SECRET, ALGORITHM)),
            Some("token_expired")
        );
        assert_eq!(
            code(verify(at(now + 60), b"other", ALGORITHM)),
            Some("unauthorized")
        );
        assert_eq!(
            code(verify(at(now + 60), SECRET, Algorithm::HS512)),
            Some("unauthorized")
        );
        assert_eq!(
            code(verify(serde_json::json!({"sub": 1}), SECRET, ALGORITHM)),
            Some("unauthorized")
        );
        let verifier = Verifier::new(SECRET, &config::Auth::default());
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOjEsImV4cCI6OTk5OTk5OTk5OX0.";
        for token in [none, "", "garbage", "a.b.c"] {
            assert_eq!(
                code(verifier.verify(token)),
                Some("unauthorized"),
                "{token}"
            );
        }
    }

    #[test]
    fn a_signed_token_names_its_user() {
        let config = config::Auth {
            issuer: Some("us".into()),
            audience: Some("them".into()),
            ..Default::default()
        };
        let user = User {
            id: UserId::from_text("42").unwrap(),
            username: Some("ada".into()),
            roles: vec!["admin".into(), "staff".into()],
        };
        let token = sign(&user, SECRET, Duration::from_secs(60), &config);
        assert_eq!(Verifier::new(SECRET, &config).verify(&token).unwrap(), user);
    }
}
