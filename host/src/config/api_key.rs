//! The keys of backends, and what is kept of them.

use std::{fmt, time::SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Secret;
use crate::{grant::Grants, units::Rate};

/// What a hash begins with where it is written instead of a key.
const PREFIX: &str = "sha256:";

/// A backend that may call the API.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    /// For logs, unique.
    pub name: String,
    /// What the backend sends, and what it sent before, if that is good still.
    pub keys: Vec<KnownKey>,
    /// What it may do.
    pub rights: Grants,
    /// How often it may ask.
    pub limit: Option<Rate>,
    /// How many of its requests may be under way at once.
    pub in_flight: usize,
}

/// A key that is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownKey {
    /// What is compared.
    pub hash: KeyHash,
    /// When it is good no more.
    pub until: Option<SystemTime>,
    /// The key itself, visible ASCII characters; none if only its hash is known.
    pub clear: Option<Secret>,
    /// Whether it stands in the file itself, and others than the file's owner can read that.
    pub is_exposed: bool,
}

/// The SHA-256 of a key's bytes. Whoever knows it does not know the key, if that cannot be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of a key's bytes.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// From its text, `sha256:` and 64 hexadecimal digits. None if it is no hash, and so a key; an error if it is
    /// meant for one.
    pub(super) fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        let (prefix, digits) = text.split_at_checked(PREFIX.len())?;
        // Whoever writes it in capitals does not mean a key that is the hash.
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return None;
        }
        let hash = hex(digits).map(Self);
        Some(hash.ok_or("expected sha256: and 64 hexadecimal digits"))
    }

    /// As 64 hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

fn hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = digits.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for KeyHash {
    /// As it may stand in the file.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.to_hex())
    }
}

impl fmt::Debug for KeyHash {
    /// Nothing: one of a key that can be guessed is as good as the key.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl ApiKey {
    /// How many requests of a backend may be under way at once if it is not said.
    pub(super) const IN_FLIGHT: usize = 1000;
}

impl KnownKey {
    /// A key in the clear.
    pub(crate) fn clear(key: Secret) -> Self {
        Self {
            hash: KeyHash::of(key.expose().as_bytes()),
            until: None,
            clear: Some(key),
            is_exposed: false,
        }
    }

    /// Whether it is good no more.
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = KeyHash::of(b"key");
        let text = hash.to_string();
        // `printf key | sha256sum`
        let known = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
        assert_eq!(text, format!("sha256:{known}"));
        assert_eq!(KeyHash::parse(&text), Some(Ok(hash)));
        let upper = text.to_uppercase();
        assert_eq!(KeyHash::parse(&upper), Some(Ok(hash)));
        assert!(hash.is(&hash) && !hash.is(&KeyHash::of(b"kez")));
        assert_eq!(KeyHash::parse("key"), None);
        for text in [
            "sha256:",
            &text[..70],
            &format!("{text}0"),
            &text.replace('b', "g"),
        ] {
            assert!(KeyHash::parse(text).unwrap().is_err(), "{text}");
        }
    }
}
