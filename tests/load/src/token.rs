//! Tokens of users: JSON Web Tokens, HS256, and the secrets that a test makes for itself.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::json;
use sha2::Sha256;

/// How long a token is good, in seconds: longer than any test.
const LIFETIME: u64 = 24 * 3600;

/// A token for user `id`.
pub fn sign(secret: &str, id: u64) -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_1970.expect("the clock is after 1970").as_secs();
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let claims = json!({
        "sub": id.to_string(),
        "username": format!("user {id}"),
        "role": "student",
        "iat": now,
        "exp": now + LIFETIME,
    });
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let signed = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length is good");
    mac.update(signed.as_bytes());
    let signature = encode(&mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// 256 random bits as text.
pub fn random_secret() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    // So few bytes come at once or not at all.
    getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_depends_on_its_secret() {
        let (one, other) = (sign("one", 7), sign("other", 7));
        assert_eq!(one.split('.').count(), 3);
        assert_ne!(one.rsplit('.').next(), other.rsplit('.').next());
    }
}
