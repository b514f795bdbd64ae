//! What servers of a cluster prove to each other that they know its secret with.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::config::Secret;

/// Signs with the secret of the cluster.
#[derive(Clone)]
pub(crate) struct Seal(Hmac<Sha256>);

impl Seal {
    /// With this secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        let key = secret.expose().as_bytes();
        Self(Hmac::new_from_slice(key).expect("a key may have any length"))
    }

    /// What only a server says that knows the secret: for this purpose and no other, of these parts, in base64.
    pub(crate) fn sign(&self, purpose: &str, parts: &[&[u8]]) -> String {
        let code = self.over(purpose, parts).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(code)
    }

    /// Whether such a server has said so.
    pub(crate) fn verifies(&self, purpose: &str, parts: &[&[u8]], code: &str) -> bool {
        let code = URL_SAFE_NO_PAD.decode(code);
        code.is_ok_and(|code| self.over(purpose, parts).verify_slice(&code).is_ok())
    }

    fn over(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [purpose.as_bytes()].iter().chain(parts) {
            // With its length, so that nothing can be moved from one part to the next.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_for_what_it_was_made_of_only() {
        let seal = Seal::new(&Secret::new("secret"));
        let code = seal.sign("a", &[b"12", b"3"]);
        assert!(seal.verifies("a", &[b"12", b"3"], &code));
        for (purpose, parts) in [
            ("b", [&b"12"[..], b"3"]),
            ("a", [b"1", b"23"]),
            ("a", [b"12", b"4"]),
        ] {
            assert!(!seal.verifies(purpose, &parts, &code));
        }
        let other = Seal::new(&Secret::new("another"));
        assert!(!other.verifies("a", &[b"12", b"3"], &code));
        for bad in ["", "!", &code[1..]] {
            assert!(!seal.verifies("a", &[b"12", b"3"], bad));
        }
    }
}
