//! The keys of backends: where they come from, and that no two are the same.

use super::{MORE_THAN_ZERO, Resolver};
use crate::config::file::{ApiFile, KeyFile, Table};
use crate::config::problem::key as path_of;
use crate::config::{Api, ApiKey, Secret};
use crate::grant::{Grant, Grants};

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
                self.check(&at, other.key != new.key, &same_key);
            }
            keys.push(new);
        }
        keys.extend(self.key_with_all_rights(&keys));
        Api { keys, max_body }
    }

    fn key_with_all_rights(&mut self, others: &[ApiKey]) -> Option<ApiKey> {
        let name = "MIXLAB_API_KEY";
        let key = self.environment.api_key.clone()?;
        if !is_sendable(&key) {
            self.problems.variable(name, NOT_SENDABLE);
        }
        if let Some(other) = others.iter().find(|other| other.key == key) {
            self.problems.variable(
                name,
                &format!("is the same key as {:?} in the file", other.name),
            );
        }
        Some(ApiKey {
            name: name.into(),
            key,
            rights: Grants::all(),
        })
    }

    fn api_key(&mut self, at: &str, written: KeyFile) -> Option<ApiKey> {
        // All are looked at before one that is missing ends it, so that each mistake is found.
        let secret = self.secret(at, written.key, written.key_env);
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
            );
            let message = format!("{:?} is for plugins, not for API keys", right.to_string());
            self.check(&format!("{at}.rights.{index}"), is_good, &message);
        }
        Some(ApiKey {
            name: name?,
            key: secret?,
            rights: rights?,
        })
    }

    fn secret(&mut self, at: &str, key: Option<Secret>, key_env: Option<String>) -> Option<Secret> {
        let (key_at, key_env_at) = (format!("{at}.key"), format!("{at}.key_env"));
        match (key, key_env) {
            (Some(secret), None) => {
                self.check(&key_at, is_sendable(&secret), NOT_SENDABLE);
                Some(secret)
            }
            (None, Some(variable)) => {
                let value = self.environment.get(&variable);
                let message = format!("the environment variable {variable} is not set");
                self.check(&key_env_at, value.is_some(), &message);
                // Other than UTF-8 is not sendable either.
                let secret = Secret::new(value?.to_string_lossy());
                self.check(&key_env_at, is_sendable(&secret), NOT_SENDABLE);
                Some(secret)
            }
            (Some(_), Some(_)) => {
                self.check(&key_env_at, false, "key and key_env exclude each other");
                None
            }
            (None, None) => {
                // One of a wrong type is missing here, too, and has its problem already.
                if !self.problems.has(&path_of(&key_at))
                    && !self.problems.has(&path_of(&key_env_at))
                {
                    self.check(at, false, "missing key \"key_env\" (or \"key\")");
                }
                None
            }
        }
    }
}

const NOT_SENDABLE: &str =
    "a key is sent in an HTTP header: expected visible ASCII characters without spaces";

fn is_sendable(key: &Secret) -> bool {
    !key.expose().is_empty() && key.expose().bytes().all(|byte| byte.is_ascii_graphic())
}
