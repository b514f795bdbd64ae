//! JSON Web Tokens: who a client is, from a token signed with `JWT_SECRET` or by an issuer that is trusted.

mod claims;
mod granted;
mod keys;
mod provider;
mod request;
mod token;

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use serde_json::{Map, Value};

pub(crate) use self::{
    granted::IsGranted,
    keys::KeySet,
    provider::{FetchKeys, Providers},
    request::{RequestToken, RequestTokens},
};
use self::{
    provider::Provider,
    token::{Flaw, Unchecked},
};
use crate::{config, error::WireError, revocation::Revocations, user::User};

/// Checks tokens.
pub struct Verifier {
    /// Of tokens of nobody in particular.
    own: Trust,
    /// Of others, by what their tokens say who made them.
    issuers: HashMap<String, Trust>,
    /// Whether the keys of any of them are fetched.
    fetches: bool,
    /// Those that are good no more.
    revocations: Arc<Revocations>,
}

/// What tokens are taken for.
struct Trust {
    keys: Keys,
    claims: claims::Reader,
}

/// What their signatures are held against.
enum Keys {
    /// What the configuration says.
    Configured(KeySet),
    /// What their issuer publishes.
    Fetched(Arc<Provider>),
}

/// Why a token is refused. The text is for the log; it never holds the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It was good until it was revoked.
    #[error("the token has been revoked")]
    Revoked,
    /// It was never good.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// Nobody knows: the keys of its issuer cannot be had right now.
    #[error("the keys of the token's issuer cannot be fetched")]
    Unknown,
}

impl TokenError {
    /// The stable code that clients see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired => "token_expired",
            Self::Revoked => "token_revoked",
            Self::Invalid(_) => "unauthorized",
            Self::Unknown => "issuer_unavailable",
        }
    }

    /// What clients see. What exactly is wrong with a token is nobody's business but the log's.
    pub(crate) fn to_wire(&self) -> WireError {
        let message = match self {
            Self::Expired => "the token has expired",
            Self::Revoked => "the token has been revoked",
            Self::Invalid(_) => "the token is not valid",
            Self::Unknown => {
                let message = "the token cannot be checked right now, try again";
                return WireError::temporary(self.code(), message);
            }
        };
        WireError::new(self.code(), message)
    }
}

impl Verifier {
    /// Checks tokens signed with `secret`, with those that were it before, and by issuers, but for those that
    /// are revoked.
    pub(crate) fn new(
        secret: &[u8],
        config: &config::Auth,
        providers: &Providers,
        revocations: Arc<Revocations>,
    ) -> Self {
        let former = config.former_secrets.iter();
        let former =
            former.map(|former| (former.secret.expose().as_bytes(), seconds(former.until)));
        let secrets = std::iter::once((secret, None)).chain(former);
        let own = Trust {
            keys: Keys::Configured(KeySet::of_secrets(secrets)),
            claims: claims::Reader::new(config),
        };
        let mut providers = providers.of(config).into_iter();
        let issuers = config.issuers.iter().filter_map(|issuer| {
            let keys = match &issuer.provider {
                Some(_) => Keys::Fetched(providers.next()?),
                // It was looked at when `mixlab.toml` was read.
                None => Keys::Configured(
                    KeySet::of_jwks(issuer.keys.expose(), &issuer.algorithms).ok()?,
                ),
            };
            let claims = claims::Reader::of_issuer(issuer, config);
            Some((issuer.issuer.clone(), Trust { keys, claims }))
        });
        Self {
            own,
            issuers: issuers.collect(),
            fetches: config
                .issuers
                .iter()
                .any(|issuer| issuer.provider.is_some()),
            revocations,
        }
    }

    /// Whether the user's token was revoked meanwhile.
    pub(crate) fn has_revoked(&self, user: &User) -> bool {
        self.revocations.have(user, get_current_timestamp())
    }

    /// So many seconds after its expiry a token is good still.
    pub(crate) fn leeway(&self) -> u64 {
        self.own.claims.leeway()
    }

    /// What is revoked.
    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The user that a token names.
    pub fn verify(&self, token: &str) -> Result<User, TokenError> {
        self.verify_at(token, get_current_timestamp())
    }

    /// The same, with the claims that plugins are granted.
    pub(crate) fn verify_for_plugins(
        &self,
        token: &str,
        is_granted: IsGranted<'_>,
    ) -> Result<User, TokenError> {
        let mut user = self.verify(token)?;
        user.token.granted = granted::granted(token, is_granted)?;
        Ok(user)
    }

    /// The same at another time than now, in seconds since 1970.
    fn verify_at(&self, token: &str, now: u64) -> Result<User, TokenError> {
        let token = Unchecked::read(token).map_err(TokenError::Invalid)?;
        let of_issuer = token.issuer().and_then(|issuer| self.issuers.get(issuer));
        let trust = of_issuer.unwrap_or(&self.own);
        let claims = match &trust.keys {
            Keys::Configured(keys) => token.checked(keys, now),
            Keys::Fetched(provider) => {
                let fetched = provider.keys().ok_or(TokenError::Unknown)?;
                match token.checked(&fetched.keys, now) {
                    Err(Flaw::UnknownKey) if provider.is_down() => return Err(TokenError::Unknown),
                    checked => checked,
                }
            }
        };
        let user = trust.claims.user(&claims?, now)?;
        match self.revocations.have(&user, now) {
            true => Err(TokenError::Revoked),
            false => Ok(user),
        }
    }

    /// What to wait for before this token can be checked, if its key has to be fetched first. It does not
    /// take long, whoever answers or not.
    pub(crate) fn wait_for_key(
        &self,
        text: &str,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        if !self.fetches {
            return None;
        }
        let token = Unchecked::read(text).ok()?;
        let trust = self.issuers.get(token.issuer()?)?;
        let Keys::Fetched(provider) = &trust.keys else {
            return None;
        };
        let algorithm = token.named_algorithm()?;
        let has_key =
            |token: &Unchecked<'_>, keys: &KeySet| token.has_key(keys, get_current_timestamp());
        if !provider.may_have(algorithm) || provider.has(|keys| has_key(&token, keys)) {
            return None;
        }
        let text = text.to_owned();
        let is_here =
            move |keys: &KeySet| Unchecked::read(&text).is_ok_and(|token| has_key(&token, keys));
        Some(provider.wait(is_here))
    }
}

impl From<Flaw> for TokenError {
    fn from(flaw: Flaw) -> Self {
        Self::Invalid(match flaw {
            Flaw::UnknownKey => "its key (kid) is not known".to_owned(),
            Flaw::Other(reason) => reason,
        })
    }
}

/// Seconds since 1970.
fn seconds(time: Option<SystemTime>) -> Option<u64> {
    let since = time?.duration_since(UNIX_EPOCH);
    Some(since.map_or(0, |since| since.as_secs()))
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
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(secret),
    )
    .expect("claims of strings and numbers always serialise")
}

#[cfg(test)]
mod tests;
