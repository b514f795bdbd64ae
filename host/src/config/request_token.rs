//! Where a token may stand in the request by which a session begins.

use http::{HeaderName, header};
use serde::Deserialize;

/// The name of a cookie: 1 to 256 characters that may stand in one (RFC 6265, section 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CookieName(String);

const MAX_NAME_BYTES: usize = 256;

impl CookieName {
    /// The name, in which small and capital letters differ.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CookieName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The characters are those of a header's name.
        let is_name = text.len() <= MAX_NAME_BYTES && HeaderName::try_from(&text).is_ok();
        match is_name {
            true => Ok(Self(text)),
            false => Err(format!(
                "{text:?} is no name of a cookie: 1 to {MAX_NAME_BYTES} letters, digits and \"-_.\""
            )),
        }
    }
}

/// The name of a header, in lower case; not `cookie`, which holds many things.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenHeader(HeaderName);

impl TokenHeader {
    /// The name.
    pub fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl TryFrom<String> for TokenHeader {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match HeaderName::try_from(&text) {
            Ok(header::COOKIE) => Err("a cookie is named by the key \"cookie\"".to_owned()),
            Ok(name) => Ok(Self(name)),
            Err(_) => Err(format!("{text:?} is no name of a header")),
        }
    }
}
