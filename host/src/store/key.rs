//! Buckets and keys.

use std::{fmt, sync::Arc};

/// Longer keys are refused.
pub(super) const MAX_KEY_BYTES: usize = 512;

/// Between the bucket and the key proper; neither has one.
const SEPARATOR: char = '\0';

/// What the names of the host's own buckets begin with.
const HOST: &str = "host/";

/// What the names of those begin with that plugins share.
const SHARED: &str = "shared/";

/// A set of keys with a quota.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(Arc<str>);

impl Bucket {
    /// A plugin's own.
    pub fn of_plugin(plugin: &str) -> Self {
        Self(format!("plugin/{plugin}").into())
    }

    /// One that plugins share.
    pub fn shared(name: &str) -> Self {
        Self(format!("{SHARED}{name}").into())
    }

    /// What the host keeps for a plugin, of this kind.
    pub fn of_host(kind: &str, plugin: &str) -> Self {
        Self(format!("{HOST}{kind}/{plugin}").into())
    }

    /// Whether plugins share it.
    pub fn is_shared(&self) -> bool {
        self.0.starts_with(SHARED)
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(text: &str) -> Self {
        Self(text.into())
    }
}

/// As `mixlab.toml` and plugins know it.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0.strip_prefix(SHARED).unwrap_or(&self.0))
    }
}

/// A key with its bucket. Sorts by bucket, then by the bytes of the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

/// Why a text is no key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidKey {
    /// Nothing, or too much.
    #[error("a key has 1 to {MAX_KEY_BYTES} bytes")]
    Length,
    /// It has a NUL.
    #[error("a key has no NUL characters")]
    Nul,
}

impl Key {
    /// A key of a bucket.
    pub fn new(bucket: &Bucket, key: &str) -> Result<Self, InvalidKey> {
        if key.is_empty() {
            return Err(InvalidKey::Length);
        }
        Self::prefix(bucket, key)
    }

    /// One that stands there, by its bucket as it is stored.
    pub(crate) fn stored(bucket: &str, key: &str) -> Self {
        Self(format!("{bucket}{SEPARATOR}{key}").into())
    }

    /// What all keys of a bucket begin with that begin so; not a key itself if that is nothing.
    pub fn prefix(bucket: &Bucket, prefix: &str) -> Result<Self, InvalidKey> {
        if prefix.len() > MAX_KEY_BYTES {
            return Err(InvalidKey::Length);
        }
        if prefix.contains(SEPARATOR) {
            return Err(InvalidKey::Nul);
        }
        Ok(Self(format!("{}{SEPARATOR}{prefix}", bucket.0).into()))
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether it is in a bucket that the host keeps.
    pub fn is_of_host(&self) -> bool {
        self.0.starts_with(HOST)
    }

    /// Without its bucket.
    pub fn name(&self) -> &str {
        self.0.split_once(SEPARATOR).map_or("", |(_, name)| name)
    }

    /// Its bucket.
    pub fn bucket(&self) -> Bucket {
        Bucket(self.bucket_name().into())
    }

    /// Its bucket, as it is stored.
    pub fn bucket_name(&self) -> &str {
        let parts = self.0.split_once(SEPARATOR);
        parts.map_or("", |(bucket, _)| bucket)
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}
