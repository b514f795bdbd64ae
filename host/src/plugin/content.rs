//! The bytes of a component, under the hash that they are known by.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

/// What a component's file holds. Hashing is slow: make it off the server's threads.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    bytes: Arc<[u8]>,
    hash: ContentHash,
}

/// The SHA-256 of a content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ContentHash([u8; 32]);

impl Content {
    /// Hashes the bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            hash: ContentHash(Sha256::digest(&bytes).into()),
            bytes: bytes.into(),
        }
    }

    /// The component.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of the bytes.
    pub(crate) fn hash(&self) -> ContentHash {
        self.hash
    }
}

impl From<[u8; 32]> for ContentHash {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl ContentHash {
    /// The hash itself.
    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
