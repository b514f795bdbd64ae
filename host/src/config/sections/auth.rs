//! `[auth]`: whose tokens are taken, and what is read of them.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{CookieName, Secret, TokenHeader, moment};
use crate::http_client::Destination;
use crate::units::duration;

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `JWT_SECRET`, never in the file: files are committed and copied.
    #[serde(skip)]
    pub secret: Option<Secret>,
    /// Whether tokens are checked. If not, they are the plugins' business, and all connections are
    /// anonymous.
    pub enabled: bool,
    /// Whether a connection without a token is accepted.
    pub anonymous: bool,
    /// Whether a token without an expiry is refused.
    pub require_exp: bool,
    /// The cookie that holds a token where a client's auth object has none.
    pub cookie: Option<CookieName>,
    /// The header that does; it goes before the cookie.
    pub header: Option<TokenHeader>,
    /// How long after its expiry a token is still good, for clocks that differ.
    #[serde(deserialize_with = "duration::deserialize")]
    pub leeway: Duration,
    /// Whether a connection ends when the token of its user is good no more.
    pub expire_connections: bool,
    /// How long before the expiry its client is told.
    #[serde(deserialize_with = "duration::deserialize")]
    pub expiry_warning: Duration,
    /// The claims that may hold the user's id; the first that is there counts.
    pub id_claims: Vec<String>,
    /// The claims that may hold the user's name; the first that is there counts.
    pub username_claims: Vec<String>,
    /// The claims that may hold a role or a list of roles; all count.
    pub role_claims: Vec<String>,
    /// The issuer that tokens must name, if any.
    pub issuer: Option<String>,
    /// The audience that tokens must name, if any.
    pub audience: Option<String>,
    /// Secrets that were `JWT_SECRET` before.
    pub former_secrets: Vec<FormerSecret>,
    /// Others whose tokens are taken.
    pub issuers: Vec<Issuer>,
}

/// An element of `auth.former_secrets`: one that tokens may still be signed with.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormerSecret {
    /// The environment variable that holds it.
    pub env: String,
    /// When it is good no more.
    #[serde(default, deserialize_with = "moment::deserialize_some")]
    #[schemars(with = "Option<String>")]
    pub until: Option<SystemTime>,
    /// What stands there.
    #[serde(skip, default = "no_secret")]
    pub secret: Secret,
}

/// An element of `auth.issuers`: somebody who signs tokens with keys of their own.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What their tokens name as issuer.
    pub issuer: String,
    /// Tokens must name one of these audiences.
    pub audiences: Vec<String>,
    /// The algorithms by which their tokens may be signed.
    #[schemars(with = "Vec<crate::config::schema::AlgorithmName>")]
    pub algorithms: Vec<Algorithm>,
    /// The file with their keys, a JWK Set; or
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// where they publish them.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// For how long keys are taken that cannot be fetched again.
    #[serde(default = "a_day", deserialize_with = "duration::deserialize")]
    pub jwks_outage: Duration,
    /// What stands before the ids of their users.
    #[serde(default)]
    pub id_prefix: String,
    /// As `auth.id_claims`, which it is if nothing is said.
    #[serde(default)]
    pub id_claims: Option<Vec<String>>,
    /// As `auth.username_claims`.
    #[serde(default)]
    pub username_claims: Option<Vec<String>>,
    /// As `auth.role_claims`.
    #[serde(default)]
    pub role_claims: Option<Vec<String>>,
    /// What the file holds; of symmetric keys, that is secret.
    #[serde(skip, default = "no_secret")]
    pub keys: Secret,
    /// What `jwks_url` says.
    #[serde(skip)]
    pub(crate) provider: Option<Destination>,
}

fn a_day() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

fn no_secret() -> Secret {
    Secret::new("")
}

impl Default for Auth {
    fn default() -> Self {
        let claims = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Self {
            secret: None,
            enabled: true,
            anonymous: true,
            require_exp: true,
            cookie: None,
            header: None,
            leeway: Duration::from_secs(5),
            expire_connections: true,
            expiry_warning: Duration::from_secs(60),
            id_claims: claims(&["sub", "id", "userId"]),
            username_claims: claims(&["username", "name"]),
            role_claims: claims(&["role", "roles"]),
            issuer: None,
            audience: None,
            former_secrets: Vec::new(),
            issuers: Vec::new(),
        }
    }
}

impl Auth {
    /// Whether tokens are signed with a secret that is made for this run: somebody tries the server
    /// out.
    pub fn is_for_trying_out(&self) -> bool {
        self.enabled && self.secret.is_none() && self.issuers.is_empty()
    }

    /// Whether tokens are looked for in the requests by which sessions begin.
    pub(crate) fn reads_requests(&self) -> bool {
        self.cookie.is_some() || self.header.is_some()
    }
}
