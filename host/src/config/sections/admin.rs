//! `[admin]`: the namespace of Socket.IO's official admin page.

use std::{fmt, str::FromStr};

use bcrypt::HashParts;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Secret, choice::choice};

/// `[admin]`, where it is switched on.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Who may log in.
    pub username: String,
    /// What is kept of the password.
    pub password: PasswordHash,
    /// Where pages connect to.
    pub namespace: String,
    /// Whether pages see only, and change nothing.
    pub readonly: bool,
    /// What they see.
    pub mode: AdminMode,
}

impl Admin {
    /// Where pages connect to unless the file, and the page's user, say otherwise.
    pub(in crate::config) const NAMESPACE: &str = "/admin";
}

/// `[admin]` as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct AdminFile {
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub namespace: Option<String>,
    pub readonly: Option<bool>,
    pub mode: Option<AdminMode>,
}

impl AdminFile {
    /// Whether nothing is written.
    pub(in crate::config) fn is_empty(&self) -> bool {
        let Self {
            username,
            password,
            namespace,
            readonly,
            mode,
        } = self;
        username.is_none()
            && password.is_none()
            && namespace.is_none()
            && readonly.is_none()
            && mode.is_none()
    }
}

/// `admin.mode`: what pages see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum AdminMode {
    /// Counts.
    #[default]
    Production,
    /// Single sockets, too, with their rooms and events.
    Development,
}

impl TryFrom<String> for AdminMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "mode",
            &text,
            &[
                ("production", Self::Production),
                ("development", Self::Development),
            ],
        )
    }
}

/// The bcrypt hash of a password. Its `Debug` shows nothing of it: a password that can be guessed can be guessed by it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// A check of a hash that costs more would take a core for seconds: each step up takes twice as long, 14 about one
/// second.
const MAX_COST: u32 = 14;

/// What hashes begin with that are made today; the three mean the same.
const PREFIXES: [&str; 3] = ["$2a$", "$2b$", "$2y$"];

impl PasswordHash {
    /// As a rule makers of hashes take no less.
    const USUAL_COST: u32 = 10;

    /// From its text, like `$2b$12$…`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_bcrypt = PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        let parts = HashParts::from_str(text).ok().filter(|_| is_bcrypt);
        let Some(parts) = parts else {
            return Err(
                "expected a bcrypt hash, like \"$2b$12$\" and 53 more characters, and not the \
                        password itself: `mixlab admin password` makes one"
                    .to_owned(),
            );
        };
        let cost = parts.get_cost();
        match (4..=MAX_COST).contains(&cost) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "the hash has cost {cost}: a check would take too long, or none; 10 to {MAX_COST} is right"
            )),
        }
    }

    /// Of a password of 1 to 71 bytes: bcrypt sees no more of longer ones.
    pub(crate) fn of(password: &str) -> Result<Self, String> {
        if password.is_empty() {
            return Err("the password is empty".to_owned());
        }
        if password.contains('\0') {
            return Err("the password has a byte that is zero".to_owned());
        }
        let hash = bcrypt::non_truncating_hash(password, bcrypt::DEFAULT_COST);
        hash.map(Self).map_err(|error| match error {
            bcrypt::BcryptError::Truncation(_) => {
                "the password has more than 71 bytes, of which bcrypt sees no more".to_owned()
            }
            error => error.to_string(),
        })
    }

    /// Whether it is of this password. Takes long, on purpose.
    pub(crate) fn is_of(&self, password: &str) -> bool {
        bcrypt::verify(password, &self.0).unwrap_or(false)
    }

    /// Whether guessing by it is quicker than it has to be.
    pub(in crate::config) fn is_cheap(&self) -> bool {
        let parts = HashParts::from_str(&self.0);
        parts.is_ok_and(|parts| parts.get_cost() < Self::USUAL_COST)
    }
}

impl fmt::Display for PasswordHash {
    /// As it may stand in the file.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
