//! `[store]`: where it is kept what plugins remember, and how safely.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::choice::choice;
use crate::suggest;
use crate::units::{Size, duration};

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Where it is; none as long as that follows from `[cluster]`.
    pub on: Option<StoreOn>,
    /// The file.
    pub path: PathBuf,
    /// What is on the disk when a client is told that its event was handled.
    pub durability: Durability,
    /// How long a commit waits for the disk before whoever waits for it is told that nobody knows what becomes
    /// of it.
    #[serde(deserialize_with = "duration::deserialize")]
    pub commit_timeout: Duration,
    /// How many keys a bucket may have, at least 1.
    pub bucket_keys: usize,
    /// How much its keys and values may take.
    pub bucket_bytes: Size,
    /// How much all buckets that plugins share may take together, with what keeping them costs.
    pub shared_bytes: Size,
    /// The largest value.
    pub max_value: Size,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            on: None,
            path: "data/store.redb".into(),
            durability: Durability::default(),
            commit_timeout: Duration::from_secs(10),
            bucket_keys: 1_000_000,
            bucket_bytes: Size::mib(256),
            shared_bytes: Size::mib(1024),
            max_value: Size::mib(1),
        }
    }
}

impl Store {
    /// One that nothing is left of.
    pub fn in_memory() -> Self {
        Self {
            on: Some(StoreOn::Disk),
            durability: Durability::Memory,
            ..Self::default()
        }
    }

    /// Whether it is in the Redis of the cluster.
    pub fn is_in_redis(&self) -> bool {
        self.on == Some(StoreOn::Redis)
    }
}

/// `store.on`: where the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum StoreOn {
    /// In a file of this server alone.
    Disk,
    /// In the Redis of `[cluster]`, for all of its servers.
    Redis,
}

impl TryFrom<String> for StoreOn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "store",
            &text,
            &[("disk", Self::Disk), ("redis", Self::Redis)],
        )
    }
}

/// `store.durability`: what is on the disk when a client is told that its event was handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Durability {
    /// All that the event wrote.
    #[default]
    Commit,
    /// All that was written until so long ago.
    Interval(Duration),
    /// Nothing, ever.
    Memory,
    /// The same, and nobody waits for anything: for plugins on trial, and not to be configured.
    Trial,
}

impl TryFrom<String> for Durability {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let interval = text.strip_prefix("interval:");
        match (text.as_str(), interval) {
            ("commit", _) => Ok(Durability::Commit),
            ("memory", _) => Ok(Durability::Memory),
            (_, Some(interval)) => {
                let interval = duration::parse(interval).map_err(|error| error.to_string())?;
                let range = Duration::from_millis(1)..=Duration::from_secs(60);
                if !range.contains(&interval) {
                    return Err(format!(
                        "{text:?} is not between interval:1ms and interval:1m"
                    ));
                }
                Ok(Durability::Interval(interval))
            }
            _ => Err(format!(
                "unknown durability {text:?}{}",
                suggest::hint(&text, &["commit", "interval:100ms", "memory"])
            )),
        }
    }
}
