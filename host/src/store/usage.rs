//! How much a bucket holds.

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
