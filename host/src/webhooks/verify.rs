//! Who sends a webhook, by its signature over the body as it came.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use http::HeaderMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::config::{Scheme, Secret, Verification};

/// Longer ids of deliveries are refused: they are kept.
const MAX_ID_BYTES: usize = 256;

/// Senders that change their secret sign with both; more signatures are not looked at.
const MAX_SIGNATURES: usize = 16;

/// What secrets of Standard Webhooks begin with; base64 follows.
const SECRET_PREFIX: &str = "whsec_";

/// Why it is not known who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unverified {
    /// A header is not there, or more than once.
    #[error("the header {0} is missing, or there more than once")]
    Missing(&'static str),
    /// A header cannot be read.
    #[error("the header {0} cannot be read")]
    Unreadable(&'static str),
    /// It was signed too long ago, or in the future.
    #[error("the signature is too old, or of another time")]
    Time,
    /// It is signed with no secret that is known.
    #[error("the signature does not match")]
    Mismatch,
}

/// Checks the signature of a request that came at `now`, in seconds since 1970. Returns the id of the
/// delivery, which stays the same when its sender tries again.
pub(super) fn verify(
    verification: &Verification,
    headers: &HeaderMap,
    body: &[u8],
    now: u64,
) -> Result<String, Unverified> {
    let Verification {
        scheme, secrets, ..
    } = verification;
    let max_age = verification.max_age.as_secs();
    match scheme {
        Scheme::Standard => {
            let id = header(headers, "webhook-id")?;
            let time = header(headers, "webhook-timestamp")?;
            let signatures = header(headers, "webhook-signature")?;
            // A dot would let an id and a time change places with what follows them.
            if !is_id(id) || id.contains('.') {
                return Err(Unverified::Unreadable("webhook-id"));
            }
            let seconds = time.parse();
            let seconds = seconds.map_err(|_| Unverified::Unreadable("webhook-timestamp"))?;
            let signatures = signatures.split(' ');
            let signatures = signatures.filter_map(|signature| signature.strip_prefix("v1,"));
            let signatures: Vec<_> = signatures
                .filter_map(|text| STANDARD.decode(text).ok())
                .take(MAX_SIGNATURES)
                .collect();
            let parts = [id.as_bytes(), b".", time.as_bytes(), b".", body];
            check(secrets, *scheme, &parts, &signatures)?;
            check_time(seconds, now, max_age)?;
            Ok(id.to_owned())
        }
        Scheme::Github => {
            let signature = header(headers, "x-hub-signature-256")?;
            let id = header(headers, "x-github-delivery")?;
            if !is_id(id) {
                return Err(Unverified::Unreadable("x-github-delivery"));
            }
            let signature = signature.strip_prefix("sha256=").and_then(of_hex);
            let signature = signature.ok_or(Unverified::Unreadable("x-hub-signature-256"))?;
            check(secrets, *scheme, &[body], &[signature])?;
            Ok(id.to_owned())
        }
        Scheme::Stripe => {
            const HEADER: &str = "stripe-signature";
            let fields = header(headers, HEADER)?.split(',');
            let fields = fields.filter_map(|field| field.trim().split_once('='));
            let fields: Vec<_> = fields.take(2 * MAX_SIGNATURES).collect();
            let time = fields.iter().find(|(name, _)| *name == "t");
            let (_, time) = time.ok_or(Unverified::Unreadable(HEADER))?;
            let seconds = time.parse().map_err(|_| Unverified::Unreadable(HEADER))?;
            let signatures = fields.iter().filter(|(name, _)| *name == "v1");
            let signatures = signatures.filter_map(|(_, text)| of_hex(text));
            let signatures: Vec<_> = signatures.take(MAX_SIGNATURES).collect();
            let parts = [time.as_bytes(), b".", body];
            check(secrets, *scheme, &parts, &signatures)?;
            check_time(seconds, now, max_age)?;
            Ok(id_of(body))
        }
    }
}

/// Whether a secret is one of this scheme.
pub(crate) fn is_secret(scheme: Scheme, secret: &Secret) -> bool {
    key(scheme, secret).is_some_and(|key| !key.is_empty())
}

fn key(scheme: Scheme, secret: &Secret) -> Option<Vec<u8>> {
    let text = secret.expose();
    match scheme {
        Scheme::Standard => {
            let base64 = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
            STANDARD.decode(base64).ok()
        }
        Scheme::Github | Scheme::Stripe => Some(text.as_bytes().to_vec()),
    }
}

/// Whether one of the signatures was made with one of the secrets. Each is compared in constant time.
fn check(
    secrets: &[Secret],
    scheme: Scheme,
    parts: &[&[u8]],
    signatures: &[Vec<u8>],
) -> Result<(), Unverified> {
    for key in secrets.iter().filter_map(|secret| key(scheme, secret)) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        let matches = |signature: &Vec<u8>| mac.clone().verify_slice(signature).is_ok();
        if signatures.iter().any(matches) {
            return Ok(());
        }
    }
    Err(Unverified::Mismatch)
}

fn check_time(signed: u64, now: u64, max_age: u64) -> Result<(), Unverified> {
    match now.abs_diff(signed) <= max_age {
        true => Ok(()),
        false => Err(Unverified::Time),
    }
}

/// The value of a header that is there once.
fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Unverified> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Unverified::Unreadable(name)),
        _ => Err(Unverified::Missing(name)),
    }
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Stripe's deliveries have the id of the event in the body; of others it is a hash of that.
fn id_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Event {
        id: String,
    }
    match serde_json::from_slice::<Event>(body) {
        Ok(event) if is_id(&event.id) => event.id,
        _ => format!("sha256:{:x}", Sha256::digest(body)),
    }
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verification(scheme: Scheme, secrets: &[&str]) -> Verification {
        Verification {
            missing: Vec::new(),
            scheme,
            secrets: secrets.iter().copied().map(Secret::new).collect(),
            max_age: Duration::from_secs(300),
            remember: Duration::from_secs(3600),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    /// The example of the specification.
    #[test]
    fn the_example_of_standard_webhooks_is_verified_and_nothing_near_it() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = br#"{"test": 2432232314}"#;
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let signed = |id, time, signature| {
            headers(&[
                ("webhook-id", id),
                ("webhook-timestamp", time),
                ("webhook-signature", signature),
            ])
        };
        let (id, time) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = verification(Scheme::Standard, &[other, secret]);
        let signatures = format!("v1,AAAA v1a,AAAA {signature}");
        let good = signed(id, time, &signatures);
        let now = 1_614_265_330;
        assert_eq!(verify(&both, &good, body, now + 300), Ok(id.to_owned()));
        for (config, headers, body, now, reason) in [
            (&both, &good, &body[..], now + 301, Unverified::Time),
            (&both, &good, &body[..], now - 301, Unverified::Time),
            (&both, &good, &body[1..], now, Unverified::Mismatch),
            (
                &verification(Scheme::Standard, &[other]),
                &good,
                &body[..],
                now,
                Unverified::Mismatch,
            ),
            (
                &both,
                &signed("msg_p5jXN8AQM9LWM0D4loKWxJel", time, signature),
                &body[..],
                now,
                Unverified::Mismatch,
            ),
            (
                &both,
                &signed(id, time, "v1,AAAA"),
                &body[..],
                now,
                Unverified::Mismatch,
            ),
            (
                &both,
                &signed("a.1", time, signature),
                &body[..],
                now,
                Unverified::Unreadable("webhook-id"),
            ),
            (
                &both,
                &HeaderMap::new(),
                &body[..],
                now,
                Unverified::Missing("webhook-id"),
            ),
        ] {
            assert_eq!(verify(config, headers, body, now), Err(reason));
        }
    }

    /// The example of GitHub's documentation.
    #[test]
    fn the_example_of_github_is_verified() {
        let config = verification(Scheme::Github, &["It's a Secret to Everybody"]);
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = headers(&[
            ("x-hub-signature-256", signature),
            ("x-github-delivery", "7"),
        ]);
        let delivery = Ok("7".to_owned());
        assert_eq!(verify(&config, &signed, b"Hello, World!", 0), delivery);
        let mismatch = Err(Unverified::Mismatch);
        assert_eq!(verify(&config, &signed, b"Hello, World?", 0), mismatch);
    }

    #[test]
    fn an_event_of_stripe_is_known_by_the_id_in_its_body() {
        assert_eq!(id_of(br#"{"id":"evt_7","object":"event"}"#), "evt_7");
        for body in [
            &b"{\"id\":\"\xc3\xa9\"}"[..],
            b"{\"id\":7}",
            b"no JSON",
            b"",
        ] {
            assert!(id_of(body).starts_with("sha256:"));
        }
    }
}
