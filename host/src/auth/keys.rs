//! What the signatures of tokens are checked with: secrets, or the keys of a JWK Set (RFC 7517).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// More keys of one issuer are refused.
const MAX_KEYS: usize = 100;

/// A token that does not say which key it is of is held against so many that it may be of.
const MAX_TRIED: usize = 4;

/// Shorter moduli can be factored (RFC 7518, section 3.3).
const MIN_RSA_BYTES: usize = 2048 / 8;

/// Keys, each with the algorithms that it is for.
pub(crate) struct KeySet {
    algorithms: Vec<Algorithm>,
    keys: Vec<Key>,
}

struct Key {
    /// As tokens name it.
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    /// When it is good no more, in seconds since 1970.
    until: Option<u64>,
    key: DecodingKey,
}

/// Why keys cannot be had from a text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKeys {
    /// It is none.
    #[error("it is no JWK Set: {0}")]
    NoSet(String),
    /// It holds too many.
    #[error("it holds more than {MAX_KEYS} keys")]
    TooMany,
    /// It holds none that is of use.
    #[error("none of its keys is for {0}")]
    Unfit(String),
}

/// Why no key has made a signature.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum NoKey {
    /// Its key is not here, or not any more.
    Unknown,
    /// It does not say which key it is of.
    Ambiguous,
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl KeySet {
    /// Secrets for HS256, each good until its time.
    pub(super) fn of_secrets<'a>(
        secrets: impl IntoIterator<Item = (&'a [u8], Option<u64>)>,
    ) -> Self {
        let key = |(secret, until)| Key {
            id: None,
            algorithms: vec![Algorithm::HS256],
            until,
            key: DecodingKey::from_secret(secret),
        };
        Self {
            algorithms: vec![Algorithm::HS256],
            keys: secrets.into_iter().map(key).collect(),
        }
    }

    /// The keys of a JWK Set that are for one of these algorithms. Others are passed over, as the standard has it.
    pub(crate) fn of_jwks(json: &str, algorithms: &[Algorithm]) -> Result<Self, InvalidKeys> {
        let written: Written =
            serde_json::from_str(json).map_err(|error| InvalidKeys::NoSet(error.to_string()))?;
        if written.keys.len() > MAX_KEYS {
            return Err(InvalidKeys::TooMany);
        }
        let jwks = written.keys.into_iter();
        let jwks = jwks.filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Vec<_> = jwks.filter_map(|jwk| Key::of(&jwk, algorithms)).collect();
        if keys.is_empty() {
            return Err(InvalidKeys::Unfit(listed(algorithms)));
        }
        Ok(Self {
            algorithms: algorithms.to_vec(),
            keys,
        })
    }

    /// Whether tokens may be signed by an algorithm.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// The algorithms by which tokens may be signed, in words.
    pub(super) fn algorithms(&self) -> String {
        listed(&self.algorithms)
    }

    /// Whether a key of this name is here.
    pub(super) fn has_named(&self, id: &str, algorithm: Algorithm) -> bool {
        let is_it =
            |key: &Key| key.id.as_deref() == Some(id) && key.algorithms.contains(&algorithm);
        self.keys.iter().any(is_it)
    }

    /// The keys that a token may be of that names `id`, if it names one.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: u64,
    ) -> Result<impl Iterator<Item = &DecodingKey> + use<'_>, NoKey> {
        let is_it = |key: &&Key| {
            let is_named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            is_named
                && key.algorithms.contains(&algorithm)
                && key.until.is_none_or(|until| now < until)
        };
        let found: Vec<_> = self.keys.iter().filter(is_it).collect();
        match found.len() {
            0 => Err(NoKey::Unknown),
            1..=MAX_TRIED => Ok(found.into_iter().map(|key| &key.key)),
            _ => Err(NoKey::Ambiguous),
        }
    }
}

impl Key {
    /// A key of a set, if it is for checking signatures by one of these algorithms.
    fn of(jwk: &Jwk, algorithms: &[Algorithm]) -> Option<Self> {
        let is_for_checks = match (&jwk.common.public_key_use, &jwk.common.key_operations) {
            (Some(public_use), _) => *public_use == PublicKeyUse::Signature,
            (None, Some(operations)) => operations.contains(&KeyOperations::Verify),
            (None, None) => true,
        };
        if !is_for_checks {
            return None;
        }
        let its_own = jwk.common.key_algorithm.map(|named| named.to_string());
        let is_named =
            |algorithm: &Algorithm| its_own.as_ref().is_none_or(|own| *own == name(*algorithm));
        let algorithms = algorithms.iter().copied();
        let algorithms: Vec<_> = algorithms
            .filter(|algorithm| is_named(algorithm) && fits(&jwk.algorithm, *algorithm))
            .collect();
        if algorithms.is_empty() {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            until: None,
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

/// Whether signatures by an algorithm can be checked with a key, and forged by nobody else.
fn fits(key: &AlgorithmParameters, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
    match (key, algorithm) {
        (AlgorithmParameters::RSA(rsa), algorithm) => {
            is_rsa(algorithm) && bytes(&rsa.n) >= MIN_RSA_BYTES
        }
        (AlgorithmParameters::EllipticCurve(point), ES256) => point.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(point), ES384) => point.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(pair), EdDSA) => pair.curve == EllipticCurve::Ed25519,
        // As long as the hash at least (RFC 7518, section 3.2).
        (AlgorithmParameters::OctetKey(secret), HS256) => bytes(&secret.value) >= 32,
        (AlgorithmParameters::OctetKey(secret), HS384) => bytes(&secret.value) >= 48,
        (AlgorithmParameters::OctetKey(secret), HS512) => bytes(&secret.value) >= 64,
        _ => false,
    }
}

fn is_rsa(algorithm: Algorithm) -> bool {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
}

/// As headers and `mixlab.toml` name it.
fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

fn listed(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms.iter().copied().map(name).collect();
    names.join(" or ")
}
