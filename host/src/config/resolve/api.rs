//! The keys of backends: where they come from, and that no two are the same.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::{MANY, MORE_THAN_ZERO, Resolver};
use crate::config::file::{ApiFile, FormerKeyFile, KeyFile, Table};
use crate::config::problem::key as path_of;
use crate::config::{Api, ApiKey, KeyHash, KnownKey, Secret};
use crate::grant::{Grant, Grants};

/// More former keys of one backend are not looked for.
const MAX_FORMER_KEYS: usize = 3;

impl Resolver<'_> {
    pub(super) fn api(&mut self, file: ApiFile) -> Api {
        let max_body = file.max_body.unwrap_or(Api::default().max_body);
        self.check("api.max_body", max_body.bytes() > 0, MORE_THAN_ZERO);

        let mut keys: Vec<ApiKey> = Vec::new();
        for (index, Table(written)) in file.keys.into_iter().enumerate() {
            let at = format!("api.keys.{index}");
            let Some(new) = self.api_key(&at, written) else {
                continue;
            };
            for other in &keys {
                let same_name = format!("duplicate name {:?}", new.name);
                self.check(&format!("{at}.name"), other.name != new.name, &same_name);
                // Which rights would it have?
                let same_key = format!("has the same key as {:?}", other.name);
                self.check(&at, !share_a_key(other, &new), &same_key);
            }
            keys.push(new);
        }
        keys.extend(self.key_with_all_rights(&keys));
        Api { keys, max_body }
    }

    fn key_with_all_rights(&mut self, others: &[ApiKey]) -> Option<ApiKey> {
        let name = "MIXLAB_API_KEY";
        let secret = self.environment.api_key.clone()?;
        let key = match known(secret) {
            Ok(key) => key,
            Err(reason) => {
                self.problems.variable(name, reason);
                return None;
            }
        };
        let key = ApiKey {
            name: name.into(),
            keys: vec![key],
            rights: Grants::all(),
            limit: None,
            in_flight: ApiKey::IN_FLIGHT,
        };
        if let Some(other) = others.iter().find(|other| share_a_key(other, &key)) {
            self.problems.variable(
                name,
                &format!("is the same key as {:?} in the file", other.name),
            );
        }
        Some(key)
    }

    fn api_key(&mut self, at: &str, written: KeyFile) -> Option<ApiKey> {
        // All are looked at before one that is missing ends it, so that each mistake is found.
        let key = self.known_key(at, written.key, written.key_env);
        let name = self.required(at, "name", written.name);
        let rights = self.required(at, "rights", written.rights);
        if let Some(name) = &name {
            self.check(&format!("{at}.name"), !name.is_empty(), "must not be empty");
        }
        for (index, right) in rights.iter().flat_map(Grants::iter).enumerate() {
            // These speak of the connection of an event, or of what only a call can wait for.
            let is_good = !matches!(
                right,
                Grant::Ask(_)
                    | Grant::Presence(_)
                    | Grant::Http(_)
                    | Grant::Store
                    | Grant::Bucket { .. }
                    | Grant::Filter(_)
                    | Grant::UnverifiedWebhooks
                    | Grant::Handshake
                    | Grant::Header(_)
                    | Grant::Claim(_)
            );
            let message = format!("{:?} is for plugins, not for API keys", right.to_string());
            self.check(&format!("{at}.rights.{index}"), is_good, &message);
        }
        let in_flight = written.in_flight.unwrap_or(ApiKey::IN_FLIGHT);
        self.check_count(&format!("{at}.in_flight"), in_flight, 1..=MANY);
        let mut keys: Vec<KnownKey> = Vec::new();
        keys.extend(key.map(|key| KnownKey {
            until: written.until,
            ..key
        }));
        self.former_keys(at, written.former_keys, &mut keys);
        if keys.is_empty() {
            return None;
        }
        Some(ApiKey {
            name: name?,
            keys,
            rights: rights?,
            limit: written.limit,
            in_flight,
        })
    }

    fn former_keys(
        &mut self,
        at: &str,
        written: Vec<Table<FormerKeyFile>>,
        keys: &mut Vec<KnownKey>,
    ) {
        let message = format!("at most {MAX_FORMER_KEYS}");
        let are_few = written.len() <= MAX_FORMER_KEYS;
        self.check(&format!("{at}.former_keys"), are_few, &message);
        for (index, Table(former)) in written.into_iter().enumerate() {
            let at = format!("{at}.former_keys.{index}");
            let until = self.required(&at, "until", former.until);
            let Some(key) = self.known_key(&at, former.key, former.key_env) else {
                continue;
            };
            let is_new = !keys.iter().any(|known| known.hash == key.hash);
            self.check(&at, is_new, "is there already");
            keys.push(KnownKey { until, ..key });
        }
    }

    fn known_key(
        &mut self,
        at: &str,
        key: Option<Secret>,
        key_env: Option<String>,
    ) -> Option<KnownKey> {
        let (key_at, key_env_at) = (format!("{at}.key"), format!("{at}.key_env"));
        let (secret, found_at, is_in_file) = match (key, key_env) {
            (Some(secret), None) => (secret, key_at, true),
            (None, Some(variable)) => {
                let value = self.environment.get(&variable);
                let message = format!("the environment variable {variable} is not set");
                self.check(&key_env_at, value.is_some(), &message);
                // Other than UTF-8 is not sendable either.
                let secret = Secret::new(value?.to_string_lossy());
                (secret, key_env_at, false)
            }
            (Some(_), Some(_)) => {
                self.check(&key_env_at, false, "key and key_env exclude each other");
                return None;
            }
            (None, None) => {
                // One of a wrong type is missing here, too, and has its problem already.
                if !self.problems.has(&path_of(&key_at))
                    && !self.problems.has(&path_of(&key_env_at))
                {
                    self.check(at, false, "missing key \"key_env\" (or \"key\")");
                }
                return None;
            }
        };
        match known(secret) {
            Ok(key) => Some(KnownKey {
                is_exposed: is_in_file
                    && key.clear.is_some()
                    && others_can_read(&self.document.path),
                ..key
            }),
            Err(reason) => {
                self.check(&found_at, false, reason);
                None
            }
        }
    }
}

const NOT_SENDABLE: &str =
    "a key is sent in an HTTP header: expected visible ASCII characters without spaces";

/// The key that is written, in the clear or as its hash.
fn known(secret: Secret) -> Result<KnownKey, &'static str> {
    if let Some(hash) = KeyHash::parse(secret.expose()) {
        return Ok(KnownKey {
            hash: hash?,
            until: None,
            clear: None,
            is_exposed: false,
        });
    }
    let text = secret.expose();
    let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match is_sendable {
        true => Ok(KnownKey::clear(secret)),
        false => Err(NOT_SENDABLE),
    }
}

/// Whether others than the owner of a file can read it.
fn others_can_read(path: &Path) -> bool {
    let metadata = fs::metadata(path);
    metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

fn share_a_key(one: &ApiKey, other: &ApiKey) -> bool {
    let mut keys = one.keys.iter();
    keys.any(|key| other.keys.iter().any(|it| it.hash == key.hash))
}
