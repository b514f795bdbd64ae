//! What a plugin remembers: keys and values, beyond reloads and restarts.
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::store;
use crate::rejection::not_json;
use crate::{Context, Error};

impl Context {
    /// What the plugin remembers, in a bucket of its own. Grant: `store`.
    ///
    /// A handler that reads and writes is a transaction: if another one changes meanwhile what it has
    /// read, it has had no effect, and runs again from the start. What it wrote is there before the
    /// client has its ack.
    ///
    /// ```no_run
    /// use mixlab_plugin::prelude::*;
    ///
    /// fn take(cx: &Context, seat: String) -> Result<(), Rejection> {
    ///     let key = format!("seat:{seat}");
    ///     if cx.store().exists(&key)? {
    ///         return Err(Rejection::new("seat_taken", "Somebody else was faster"));
    ///     }
    ///     cx.store().set(&key, &cx.user()?.id)?;
    ///     Ok(cx.store().add("taken", 1)?)
    /// }
    /// ```
    pub fn store(&self) -> Store {
        Store { bucket: None }
    }

    /// What plugins remember together, in the bucket of this name. Grant: `store:BUCKET`, or
    /// `store:BUCKET:read` to read only.
    pub fn bucket(&self, name: impl Into<String>) -> Store {
        Store {
            bucket: Some(name.into()),
        }
    }
}

/// A bucket: keys of 1 to 512 bytes, each with a value.
#[derive(Clone, Debug)]
#[must_use = "nothing is read or written without one of its methods"]
pub struct Store {
    bucket: Option<String>,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: T,
}

impl Store {
    /// A value that [`set`](Self::set) has stored; none if the key is not there.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let bytes = self.get_bytes(key)?;
        bytes.map(|bytes| read(key, &bytes)).transpose()
    }

    /// The bytes under a key; none if it is not there.
    pub fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        store::get(self.bucket(), key)
    }

    /// Whether a key is there.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        store::exists(self.bucket(), key)
    }

    /// Stores a value as JSON: an effect.
    pub fn set(&self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.set_bytes(key, &serde_json::to_vec(value).map_err(not_json)?)
    }

    /// Stores a value as JSON, and for so long: an effect.
    pub fn set_for(
        &self,
        time_to_live: Duration,
        key: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        let value = serde_json::to_vec(value).map_err(not_json)?;
        let milliseconds = u64::try_from(time_to_live.as_millis()).unwrap_or(u64::MAX);
        store::set(self.bucket(), key, &value, Some(milliseconds))
    }

    /// Stores bytes: an effect.
    pub fn set_bytes(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        store::set(self.bucket(), key, value, None)
    }

    /// Takes a key away, if it is there: an effect.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        store::delete(self.bucket(), key)
    }

    /// Adds to a number, which is 0 if the key is not there: an effect. It is added to whatever is there
    /// when the handler has returned, so that handlers that add never wait for each other.
    pub fn add(&self, key: &str, delta: i64) -> Result<(), Error> {
        store::add(self.bucket(), key, delta)
    }

    /// Changes a value, which is `T::default()` if the key is not there, and returns what `change` does.
    ///
    /// ```no_run
    /// use mixlab_plugin::prelude::*;
    ///
    /// fn place(cx: &Context, bid: u64) -> Result<u64, Rejection> {
    ///     let highest = cx.store().update("highest", |highest: &mut u64| {
    ///         *highest = bid.max(*highest);
    ///         *highest
    ///     })?;
    ///     Ok(highest)
    /// }
    /// ```
    pub fn update<T, R>(&self, key: &str, change: impl FnOnce(&mut T) -> R) -> Result<R, Error>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        let mut value = self.get(key)?.unwrap_or_default();
        let result = change(&mut value);
        self.set(key, &value)?;
        Ok(result)
    }

    /// At most `limit` (up to 1000) of the keys that begin with `prefix`, with their values, in the
    /// order of their bytes. Those that follow are behind the last one: [`Store::scan_after`].
    pub fn scan<T: DeserializeOwned>(
        &self,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Entry<T>>, Error> {
        self.scanned(prefix, None, limit)
    }

    /// At most `limit` (up to 1000) of the keys that begin with `prefix` and come behind `after`.
    pub fn scan_after<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Entry<T>>, Error> {
        self.scanned(prefix, Some(after), limit)
    }

    fn scanned<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry<T>>, Error> {
        let found = store::scan(self.bucket(), prefix, after, limit)?;
        let entry = |entry: store::Entry| {
            let value = read(&entry.key, &entry.value)?;
            Ok(Entry {
                key: entry.key,
                value,
            })
        };
        found.into_iter().map(entry).collect()
    }

    fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }
}

/// What is stored may be that of another version of the plugin.
fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Invalid(format!("{key}: {error}")))
}
