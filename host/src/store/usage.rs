//! How much a bucket holds.

use super::Bucket;

/// What a key costs at most beside its bytes, those of its bucket's name and those of its value: in the file, and in
/// memory where it has a time to live or is its bucket's only one.
const KEY_COST: u64 = 100;

/// What the keys and values of a bucket take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Keys.
    pub keys: u64,
    /// Bytes of the keys, without the bucket's name, and of their values.
    pub bytes: u64,
}

impl Usage {
    /// Of one key.
    pub(super) fn of(key: &str, value: usize) -> Self {
        Self {
            keys: 1,
            bytes: (key.len() + value) as u64,
        }
    }

    /// What it costs to keep all this in a bucket.
    pub(super) fn cost(self, bucket: &Bucket) -> u64 {
        let of_key = KEY_COST + bucket.as_str().len() as u64;
        self.bytes.saturating_add(self.keys.saturating_mul(of_key))
    }

    /// With one key more.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            keys: self.keys.saturating_add(other.keys),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// With one key less.
    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            keys: self.keys.saturating_sub(other.keys),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
