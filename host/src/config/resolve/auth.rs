//! Who may sign tokens.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::Resolver;
use crate::auth::KeySet;
use crate::config::{Auth, FormerSecret, Issuer, Secret};
use crate::http_client::Destination;

/// A larger set of keys is refused.
const MAX_KEYS_BYTES: u64 = 1 << 20;

/// More secrets would be tried for each token.
const MAX_FORMER_SECRETS: usize = 3;

/// Bounds of how long keys are taken that cannot be fetched again.
const MIN_OUTAGE: Duration = Duration::from_secs(5 * 60);
const MAX_OUTAGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Resolver<'_> {
    pub(super) fn auth(&mut self, mut auth: Auth) -> Auth {
        auth.secret = self.environment.jwt_secret.clone();
        self.check(
            "auth.id_claims",
            !auth.id_claims.is_empty(),
            "a user needs an id: name at least one claim",
        );
        self.check(
            "auth.anonymous",
            auth.enabled || auth.anonymous,
            "nobody could connect: with enabled = false, every client is anonymous",
        );
        for (at, expected) in [
            ("auth.issuer", &auth.issuer),
            ("auth.audience", &auth.audience),
        ] {
            let is_one = expected.as_ref().is_none_or(|name| !name.is_empty());
            let message = "must not be empty: no token names that; leave it out to take any";
            self.check(at, is_one, message);
        }
        for (at, is_read) in [
            ("auth.cookie", auth.cookie.is_some()),
            ("auth.header", auth.header.is_some()),
        ] {
            let message = "with enabled = false, no token is looked for";
            self.check(at, auth.enabled || !is_read, message);
        }
        let few = auth.former_secrets.len() <= MAX_FORMER_SECRETS;
        let message = format!("at most {MAX_FORMER_SECRETS}: each is tried for every token");
        self.check("auth.former_secrets", few, &message);
        for (index, former) in auth.former_secrets.iter_mut().enumerate() {
            self.former_secret(&format!("auth.former_secrets.{index}.env"), former);
        }
        let mut known = HashSet::new();
        for (index, issuer) in auth.issuers.iter_mut().enumerate() {
            let at = format!("auth.issuers.{index}");
            let is_new = known.insert(issuer.issuer.clone());
            self.check(&format!("{at}.issuer"), is_new, "the same as another one");
            self.issuer(&at, issuer);
        }
        auth
    }

    fn former_secret(&mut self, at: &str, former: &mut FormerSecret) {
        let environment = self.environment;
        let value = environment.get(&former.env);
        let message = format!("the environment variable {} is not set", former.env);
        let value = value.filter(|value| !value.is_empty());
        self.check(at, value.is_some(), &message);
        if let Some(value) = value {
            former.secret = Secret::new(value.to_string_lossy());
        }
    }

    fn issuer(&mut self, at: &str, issuer: &mut Issuer) {
        for (name, is_there) in [
            ("issuer", !issuer.issuer.is_empty()),
            ("audiences", !issuer.audiences.is_empty()),
            ("algorithms", !issuer.algorithms.is_empty()),
        ] {
            self.check(&format!("{at}.{name}"), is_there, "must not be empty");
        }
        if let Some(claims) = &issuer.id_claims {
            let message = "a user needs an id: name at least one claim";
            self.check(&format!("{at}.id_claims"), !claims.is_empty(), message);
        }
        if issuer.algorithms.is_empty() {
            return;
        }
        match (&issuer.jwks_file, &issuer.jwks_url) {
            (Some(file), None) => self.keys_of_file(at, &self.folder.join(file), issuer),
            (None, Some(url)) => self.provider(at, &url.clone(), issuer),
            _ => {
                let message = "its keys are either in jwks_file or at jwks_url";
                self.check(&format!("{at}.jwks_file"), false, message);
            }
        }
    }

    fn provider(&mut self, at: &str, url: &str, issuer: &mut Issuer) {
        let is_secret = |algorithm: &Algorithm| {
            use Algorithm::{HS256, HS384, HS512};
            matches!(algorithm, HS256 | HS384 | HS512)
        };
        let message = "a key that is published is no secret: HS256, HS384 and HS512 need jwks_file";
        let are_public = !issuer.algorithms.iter().any(is_secret);
        self.check(&format!("{at}.algorithms"), are_public, message);
        let outage = issuer.jwks_outage;
        let message = "from 5m to 30d: keys are fetched anew every few minutes, and old ones may have been stolen";
        let is_sensible = (MIN_OUTAGE..=MAX_OUTAGE).contains(&outage);
        self.check(&format!("{at}.jwks_outage"), is_sensible, message);
        let at = format!("{at}.jwks_url");
        match Destination::parse(url) {
            Ok(url) if url.is_safe_from_others() => issuer.provider = Some(url),
            Ok(_) => {
                let message = "whoever is between could put other keys in: https, unless it is on this machine";
                self.check(&at, false, message);
            }
            Err(error) => self.check(&at, false, &error.to_string()),
        }
    }

    fn keys_of_file(&mut self, at: &str, path: &Path, issuer: &mut Issuer) {
        let keys = read(path).map_err(|error| error.to_string());
        let keys = keys.and_then(|json| {
            let set = KeySet::of_jwks(&json, &issuer.algorithms);
            set.map(|_| json).map_err(|error| error.to_string())
        });
        match keys {
            Ok(json) => issuer.keys = Secret::new(json),
            Err(reason) => {
                let message = format!("{}: {reason}", path.display());
                self.check(&format!("{at}.jwks_file"), false, &message);
            }
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(MAX_KEYS_BYTES + 1);
    file.read_to_string(&mut text)?;
    if text.len() as u64 > MAX_KEYS_BYTES {
        let reason = format!("it has more than {MAX_KEYS_BYTES} bytes");
        return Err(io::Error::other(reason));
    }
    Ok(text)
}
