//! Text that must not be seen.

use std::fmt;

use serde::Deserialize;

/// A secret from the environment or the file. Its `Debug` shows nothing of it, and it has no
/// `Display`. Equality is for telling whether the configuration changed; what a client sends is
/// compared in constant time by those who check it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for those who check or sign with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
