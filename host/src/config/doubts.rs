//! What is allowed and is likely a mistake.

use super::{ApiKey, Auth, Config, Plugin, Secret, StoreOn, Verification};
use crate::http_client::{Host, Reach};

/// A secret for HS256 has at least as many bytes as the hash (RFC 7518, section 3.2).
pub const MIN_JWT_SECRET_BYTES: usize = 32;

/// Shorter keys of backends can be guessed: so many characters of base64 are 96 bits.
const MIN_API_KEY_BYTES: usize = 16;

/// What follows the address of a collector.
const OTLP_PATHS: [&str; 2] = ["/v1/traces", "/v1/metrics"];

/// Where a collector takes gRPC by default.
const OTLP_GRPC_PORT: u16 = 4317;

impl Config {
    /// What is allowed and is likely a mistake, each in a sentence for the log. It holds no secret.
    pub fn doubts(&self) -> Vec<String> {
        let keys = self.api.keys.iter().flat_map(doubts_of_api_key);
        let plugins = self.plugins.iter().filter(|plugin| plugin.enabled);
        let webhooks = plugins.flat_map(doubts_of_webhooks);
        let auth = self.auth.doubts().into_iter();
        let store = self.doubt_of_store().into_iter();
        let admin = self.doubt_of_admin().into_iter();
        let collector = self.doubt_of_collector().into_iter();
        auth.chain(keys)
            .chain(webhooks)
            .chain(store)
            .chain(admin)
            .chain(collector)
            .collect()
    }

    /// Passwords can be tried quickly by whoever has the file.
    fn doubt_of_admin(&self) -> Option<String> {
        let is_cheap = self
            .admin
            .as_ref()
            .is_some_and(|admin| admin.password.is_cheap());
        is_cheap.then(|| {
            "the hash of [admin] password has a cost of less than 10, so that whoever sees it can try many \
             passwords: `mixlab admin password` makes a better one"
                .to_owned()
        })
    }

    /// Nothing would take OTLP over HTTP there.
    fn doubt_of_collector(&self) -> Option<String> {
        let endpoint = self.telemetry.endpoint.as_ref()?;
        if let Host::Address(address) = endpoint.host()
            && !Reach::Private.permits(*address)
        {
            return Some(format!(
                "[telemetry] endpoint is {address}, which no request is sent to: the collector needs one of \
                 this machine, of the network or of the internet"
            ));
        }
        let uri = endpoint.uri();
        let path = uri.path().trim_end_matches('/');
        if let Some(added) = OTLP_PATHS.iter().find(|added| path.ends_with(*added)) {
            return Some(format!(
                "[telemetry] endpoint ends with {added}, which is added to it: leave that out"
            ));
        }
        let is_grpc = uri.port_u16() == Some(OTLP_GRPC_PORT);
        is_grpc.then(|| {
            format!(
                "[telemetry] endpoint has the port {OTLP_GRPC_PORT}, where collectors take gRPC: for HTTP \
                 it is 4318"
            )
        })
    }

    /// Plugins would find other data on each server.
    fn doubt_of_store(&self) -> Option<String> {
        let is_split = self.cluster.url.is_some() && self.store.on == Some(StoreOn::Disk);
        is_split.then(|| {
            "with [store] on = \"disk\", each server of the cluster has data of its own, timers and answers \
             to webhooks included: on = \"redis\" has them share it"
                .to_owned()
        })
    }
}

impl Auth {
    /// The same of `JWT_SECRET` alone.
    pub fn doubts(&self) -> Vec<String> {
        let secret = self.secret.as_ref().filter(|_| self.enabled);
        secret.map(doubts_of_jwt_secret).unwrap_or_default()
    }
}

fn doubts_of_api_key(key: &ApiKey) -> Vec<String> {
    let mut doubts = Vec::new();
    let short = |key: &Secret| key.expose().len() < MIN_API_KEY_BYTES;
    if key
        .keys
        .iter()
        .any(|it| it.clear.as_ref().is_some_and(short))
    {
        doubts.push(format!(
            "the API key {:?} has less than {MIN_API_KEY_BYTES} characters and can be guessed",
            key.name
        ));
    }
    if key.keys.iter().any(|it| it.is_exposed) {
        doubts.push(format!(
            "the API key {:?} stands in a file that others than its owner can read: `mixlab key new` makes \
             one of which the file needs no more than the hash",
            key.name
        ));
    }
    doubts
}

/// The rest of a plugin works without a secret of webhooks, and whoever tries it out has none.
fn doubts_of_webhooks(plugin: &Plugin) -> Vec<String> {
    let Some(Verification {
        secrets, missing, ..
    }) = &plugin.webhook.verification
    else {
        return Vec::new();
    };
    let follows = match secrets.is_empty() {
        true => "its webhooks are refused with 503 until the server is started with it",
        false => "its webhooks are checked with the other secrets only",
    };
    let doubt = |variable| {
        format!(
            "the environment variable {variable} of the plugin {:?} is not set: {follows}",
            plugin.name
        )
    };
    missing.iter().map(doubt).collect()
}

fn doubts_of_jwt_secret(secret: &Secret) -> Vec<String> {
    let text = secret.expose();
    let quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    let mut doubts = Vec::new();
    if text.trim() != text {
        doubts.push(
            "JWT_SECRET begins or ends with white space, which is part of the secret: a line break of \
             the file that it was read from?"
                .to_owned(),
        );
    }
    if quoted('"') || quoted('\'') {
        doubts.push(
            "JWT_SECRET stands in quotes, which are part of the secret: does whoever signs tokens \
             have them too?"
                .to_owned(),
        );
    }
    if secret.is_short_for_hs256() {
        doubts.push(format!(
            "JWT_SECRET has less than {MIN_JWT_SECRET_BYTES} bytes, so that tokens can be forged by \
             trying secrets; {HOW_TO_MAKE_ONE}"
        ));
    }
    doubts
}

/// What makes a good secret.
pub const HOW_TO_MAKE_ONE: &str = "`openssl rand -base64 48` makes a good one";

impl Secret {
    /// Whether it is too short to sign tokens with. White space around it does not count.
    pub(crate) fn is_short_for_hs256(&self) -> bool {
        self.expose().trim().len() < MIN_JWT_SECRET_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::KnownKey, grant::Grants, http_client::Destination};

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn doubts(secret: &str, enabled: bool) -> Vec<String> {
        let auth = Auth {
            secret: Some(Secret::new(secret)),
            enabled,
            ..Auth::default()
        };
        let config = Config {
            auth,
            ..Config::default()
        };
        config.doubts()
    }

    #[test]
    fn a_secret_that_is_likely_a_mistake_is_doubted_and_not_shown() {
        for (secret, words) in [
            (GOOD.to_owned(), &[][..]),
            (format!("{GOOD}\n"), &["white space"]),
            (format!("{GOOD}\r\n"), &["white space"]),
            (format!(" {GOOD}"), &["white space"]),
            (format!("\"{GOOD}\""), &["quotes"]),
            (format!("'{GOOD}'"), &["quotes"]),
            (format!("\"{GOOD}'"), &[]),
            (format!("{GOOD}\""), &[]),
            (GOOD[1..].to_owned(), &["less than 32"]),
            ("\n".to_owned(), &["white space", "less than 32"]),
            (" ".repeat(40), &["white space", "less than 32"]),
            ("\"\"".to_owned(), &["quotes", "less than 32"]),
            ("\"".to_owned(), &["less than 32"]),
        ] {
            let doubts = doubts(&secret, true);
            assert_eq!(doubts.len(), words.len(), "{secret:?}: {doubts:?}");
            for (doubt, word) in doubts.iter().zip(words) {
                assert!(doubt.contains(word), "{secret:?}: {doubt}");
                let shown = secret.trim().len() > 4 && doubt.contains(secret.trim());
                assert!(!shown, "{doubt}");
            }
        }
        assert!(doubts("\n", false).is_empty(), "nothing is checked with it");
    }

    #[test]
    fn an_address_of_a_collector_that_takes_no_http_is_doubted() {
        for (endpoint, word) in [
            ("http://127.0.0.1:4318", None),
            (
                "http://127.0.0.1:4318/v1/traces/",
                Some("ends with /v1/traces"),
            ),
            ("http://127.0.0.1/otlp/v1/metrics", Some("/v1/metrics")),
            ("http://127.0.0.1:4317", Some("gRPC")),
            ("http://169.254.1.1:4318", Some("no request is sent to")),
        ] {
            let mut config = Config::default();
            config.telemetry.endpoint = Destination::parse(endpoint).ok();
            let doubt = config.doubt_of_collector();
            assert_eq!(doubt.is_some(), word.is_some(), "{endpoint}: {doubt:?}");
            assert!(
                doubt.unwrap_or_default().contains(word.unwrap_or_default()),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn a_key_that_others_may_find_out_is_doubted_by_its_name() {
        let mut config = Config::default();
        for (name, key, is_exposed) in [
            ("short", "k3y", false),
            ("exposed", GOOD, true),
            ("good", &GOOD[..16], false),
        ] {
            config.api.keys.push(ApiKey {
                name: name.into(),
                keys: vec![KnownKey {
                    is_exposed,
                    ..KnownKey::clear(Secret::new(key))
                }],
                rights: Grants::default(),
                limit: None,
                in_flight: 1,
            });
        }
        let doubts = config.doubts();
        assert!(
            matches!(&doubts[..], [short, exposed] if short.contains("\"short\"") && exposed.contains("\"exposed\"")),
            "{doubts:?}"
        );
        assert!(
            !doubts[0].contains("k3y") && !doubts[1].contains(GOOD),
            "{doubts:?}"
        );
    }
}
