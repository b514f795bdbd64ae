//! What a token is made of (RFC 7515, RFC 7519): a header, claims and a signature over both. Whatever
//! is not understood of it is refused.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::keys::{KeySet, NoKey};

/// A token whose signature nobody has checked yet. The reasons for refusals hold nothing of it.
pub(super) struct Unchecked<'a> {
    header: Map<String, Value>,
    /// None: they are no object.
    claims: Option<Map<String, Value>>,
    /// What the signature is of.
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Unchecked<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, String> {
        let (signed, signature) = token.rsplit_once('.').ok_or(NOT_THREE_PARTS)?;
        let (header, claims) = signed.split_once('.').ok_or(NOT_THREE_PARTS)?;
        if claims.contains('.') {
            return Err(NOT_THREE_PARTS.to_owned());
        }
        Ok(Self {
            header: object(header).ok_or("its header is not a JSON object")?,
            claims: object(claims),
            signed,
            signature,
        })
    }

    /// Who says to have signed it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.as_ref()?.get("iss")?.as_str()
    }

    /// The algorithm that it says it is signed by, if that can be read.
    pub(super) fn named_algorithm(&self) -> Option<Algorithm> {
        self.header.get("alg")?.as_str()?.parse().ok()
    }

    /// Whether its key is among these: one that it names, or, where nothing is named, one that has signed it.
    pub(super) fn has_key(&self, keys: &KeySet, now: u64) -> bool {
        let (Ok(id), Some(algorithm)) = (self.key_id(), self.named_algorithm()) else {
            return false;
        };
        if id.is_some_and(|id| keys.has_named(id, algorithm)) {
            return true;
        }
        match keys.find(id, algorithm, now) {
            Ok(mut found) => found.any(|key| self.is_signed_with(key, algorithm) == Ok(true)),
            Err(NoKey::Ambiguous) => true,
            Err(NoKey::Unknown) => false,
        }
    }

    /// The claims, if one of the keys has signed them.
    pub(super) fn checked(self, keys: &KeySet, now: u64) -> Result<Map<String, Value>, Flaw> {
        let algorithm = self.algorithm(keys)?;
        // Whoever made the token wants it refused by those who do not know these extensions, and none
        // is known here (RFC 7515, section 4.1.11).
        if self.header.contains_key("crit") {
            return Err("its header names extensions that have to be understood (crit)".into());
        }
        let found = keys
            .find(self.key_id()?, algorithm, now)
            .map_err(|reason| match reason {
                NoKey::Unknown => Flaw::UnknownKey,
                NoKey::Ambiguous => "it does not say which key it was signed with (kid)".into(),
            })?;
        for key in found {
            match self.is_signed_with(key, algorithm) {
                Ok(true) => {
                    let claims = self.claims;
                    return Ok(claims.ok_or("its claims are not a JSON object")?);
                }
                Ok(false) => {}
                Err(NoBase64) => return Err("its signature is not base64url".into()),
            }
        }
        Err("its signature was made with another key".into())
    }

    /// A token that names an algorithm that is not allowed, `none` among them, is refused.
    fn algorithm(&self, keys: &KeySet) -> Result<Algorithm, String> {
        let named = self.named_algorithm();
        let allowed = named.filter(|algorithm| keys.allows(*algorithm));
        allowed.ok_or_else(|| format!("it is not signed with {}", keys.algorithms()))
    }

    fn is_signed_with(&self, key: &DecodingKey, algorithm: Algorithm) -> Result<bool, NoBase64> {
        let signed = self.signed.as_bytes();
        crypto::verify(self.signature, signed, key, algorithm).map_err(|_| NoBase64)
    }

    fn key_id(&self) -> Result<Option<&str>, &'static str> {
        match self.header.get("kid") {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(id)),
            Some(_) => Err("the id of its key (kid) is not a text"),
        }
    }
}

/// A signature cannot be read.
#[derive(PartialEq, Eq)]
struct NoBase64;

/// Why a token is none.
#[derive(Debug)]
pub(super) enum Flaw {
    /// The key that it names is not here.
    UnknownKey,
    /// Anything else, in words.
    Other(String),
}

impl From<String> for Flaw {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

impl From<&str> for Flaw {
    fn from(reason: &str) -> Self {
        Self::Other(reason.to_owned())
    }
}

const NOT_THREE_PARTS: &str = "it does not have three parts";

/// A part of a token: base64url of a JSON object.
fn object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    let UniqueNames(object) = serde_json::from_slice(&json).ok()?;
    Some(object)
}

/// An object in which no name stands twice: of two claims with one name, others might believe the
/// other one.
struct UniqueNames(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueNamesVisitor)
    }
}

struct UniqueNamesVisitor;

impl<'de> Visitor<'de> for UniqueNamesVisitor {
    type Value = UniqueNames;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueNames, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(UniqueNames(object))
    }
}
