//! The keys in Redis. All of them stand in the same slot, as a script in a Redis Cluster wants it.

use crate::store::{Key, transaction::Range};

/// What the keys begin with.
pub(super) struct Names(String);

impl Names {
    /// Behind the prefix of the cluster.
    pub(super) fn new(prefix: &str) -> Self {
        Self(format!("{prefix}:mixlab:{{store}}"))
    }

    /// A hash: the rows of a bucket by their keys.
    pub(super) fn values(&self, bucket: &str) -> String {
        format!("{}:values:{bucket}", self.0)
    }

    /// A sorted set, by bytes: the keys of a bucket.
    pub(super) fn keys(&self, bucket: &str) -> String {
        format!("{}:keys:{bucket}", self.0)
    }

    /// The number of the last commit.
    pub(super) fn last(&self) -> String {
        format!("{}:last", self.0)
    }

    /// What came of a commit.
    pub(super) fn commit(&self, id: &str) -> String {
        format!("{}:commit:{id}", self.0)
    }

    /// Where numbers are added.
    pub(super) fn sum(&self) -> String {
        format!("{}:sum", self.0)
    }

    /// A hash: how many bytes the buckets hold.
    pub(super) fn bytes(&self) -> String {
        format!("{}:bytes", self.0)
    }

    /// A sorted set: the keys that have a time to live, with their buckets, by its end.
    pub(super) fn expiries(&self) -> String {
        format!("{}:expiries", self.0)
    }

    /// A stream: keys of the host that were written, for the other servers.
    pub(super) fn news(&self) -> String {
        format!("{}:news", self.0)
    }

    /// Whether somebody deals with what a commit has written under a key.
    pub(super) fn claim(&self, key: &Key, at: u64) -> String {
        format!("{}:claim:{at}:{}", self.0, key.as_str())
    }

    /// What is written to see whether anything can be.
    pub(super) fn probe(&self) -> String {
        format!("{}:probe", self.0)
    }
}

/// The first and the last of a range of keys, as `ZRANGEBYLEX` takes them.
pub(super) fn bounds(range: &Range) -> (Vec<u8>, Vec<u8>) {
    let bound = |sign: &str, name: &str| [sign, name].concat().into_bytes();
    let name_of = |key: &str| key.split_once('\0').map_or("", |(_, name)| name).to_owned();
    let from = match range.from() {
        std::ops::Bound::Excluded(after) => bound("(", &name_of(after)),
        std::ops::Bound::Included(from) => bound("[", &name_of(from)),
        std::ops::Bound::Unbounded => b"-".to_vec(),
    };
    let to = match &range.last {
        Some(last) => bound("[", last.name()),
        None => {
            let mut to = bound("(", range.prefix.name());
            // No text has this byte, so all that begins so comes before it.
            to.push(0xff);
            to
        }
    };
    (from, to)
}
