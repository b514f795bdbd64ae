//! What a token is made of (RFC 7515, RFC 7519): a header, claims and a signature over both. Whatever
//! is not understood of it is refused.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The only algorithm: a token that names another, `none` among them, is refused.
pub(super) const ALGORITHM: Algorithm = Algorithm::HS256;

/// As headers name it.
const ALGORITHM_NAME: &str = "HS256";

/// The claims of a token that was signed with `key`. The reason for a refusal holds nothing of the
/// token.
pub(super) fn open(token: &str, key: &DecodingKey) -> Result<Map<String, Value>, &'static str> {
    let (signed, signature) = token.rsplit_once('.').ok_or(NOT_THREE_PARTS)?;
    let (header, claims) = signed.split_once('.').ok_or(NOT_THREE_PARTS)?;
    if claims.contains('.') {
        return Err(NOT_THREE_PARTS);
    }
    check_header(&object(header).ok_or("its header is not a JSON object")?)?;
    match crypto::verify(signature, signed.as_bytes(), key, ALGORITHM) {
        Ok(true) => object(claims).ok_or("its claims are not a JSON object"),
        Ok(false) => Err("its signature was made with another key"),
        Err(_) => Err("its signature is not base64url"),
    }
}

const NOT_THREE_PARTS: &str = "it does not have three parts";

fn check_header(header: &Map<String, Value>) -> Result<(), &'static str> {
    if header.get("alg").and_then(Value::as_str) != Some(ALGORITHM_NAME) {
        return Err("it is not signed with HS256");
    }
    // Whoever made the token wants it refused by those who do not know these extensions, and none
    // is known here (RFC 7515, section 4.1.11).
    if header.contains_key("crit") {
        return Err("its header names extensions that have to be understood (crit)");
    }
    Ok(())
}

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
