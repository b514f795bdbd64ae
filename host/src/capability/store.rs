//! `mixlab:plugin/store`: what a plugin remembers.

use std::time::Duration;

use super::{State, denied};
use crate::{
    guest::{Error, store},
    store::{Bucket, CommitError, InvalidKey, Key, Most, Page, ScanError, Transaction, Value},
    units::duration,
};

/// How many keys are listed at once.
const MAX_SCANNED: u32 = 1000;

/// A value that is to be gone after a longer time than this is not understood.
const MAX_TTL: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

impl store::Host for State {
    async fn get(
        &mut self,
        bucket: Option<String>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.meter.host_call(key.len())?;
        Ok(self.stored(bucket, &key).await)
    }

    async fn exists(
        &mut self,
        bucket: Option<String>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        self.meter.host_call(key.len())?;
        Ok(self.stands(bucket, &key).await)
    }

    async fn scan(
        &mut self,
        bucket: Option<String>,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<store::Entry>, Error>> {
        let bytes = prefix.len() + after.as_ref().map_or(0, String::len);
        self.meter.host_call(bytes)?;
        Ok(self.scanned(bucket, &prefix, after.as_deref(), limit).await)
    }

    fn set(
        &mut self,
        bucket: Option<String>,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(key.len() + value.len())?;
        Ok(self.set_value(bucket, &key, value, ttl_ms))
    }

    fn delete(
        &mut self,
        bucket: Option<String>,
        key: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(key.len())?;
        let write = |transaction: &mut Transaction, key| {
            transaction.delete(key);
            Ok(())
        };
        Ok(self.write(bucket, &key, write))
    }

    fn add(
        &mut self,
        bucket: Option<String>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(key.len())?;
        let write = |transaction: &mut Transaction, key| Ok(transaction.add(key, delta)?);
        Ok(self.write(bucket, &key, write))
    }
}

impl State {
    /// What the call reads and writes.
    pub(super) fn transaction(&mut self) -> Result<&mut Transaction, Error> {
        self.called()?;
        let Some(store) = &self.store else {
            return Err(Error::Unavailable("there is no store".to_owned()));
        };
        let begin = || {
            let mut transaction = Box::new(Transaction::new(store.clone()));
            transaction.note(self.reads.clone());
            transaction
        };
        Ok(self.transaction.get_or_insert_with(begin))
    }

    fn bucket(&self, named: Option<&str>, to_write: bool) -> Result<Bucket, Error> {
        let grants = self.grants();
        match named {
            None if grants.store() => Ok(Bucket::of_plugin(&self.plugin)),
            None => Err(denied("store")),
            Some(name) if grants.bucket(name, to_write) => {
                // Of a bucket that a pattern grants, the name may be anything.
                let is_name = Key::new(&Bucket::shared(""), name).is_ok();
                let invalid =
                    || Error::Invalid("bucket: a name has 1 to 512 bytes, and no NUL".into());
                is_name.then(|| Bucket::shared(name)).ok_or_else(invalid)
            }
            Some(name) if to_write => Err(denied(format_args!("store:{name}"))),
            Some(name) => Err(denied(format_args!("store:{name}:read"))),
        }
    }

    async fn stands(&mut self, bucket: Option<String>, key: &str) -> Result<bool, Error> {
        let bucket = self.bucket(bucket.as_deref(), false)?;
        let key = Key::new(&bucket, key)?;
        let transaction = self.transaction()?;
        let stands = transaction.get(&key).await?.is_some();
        // No budget counts it.
        transaction.let_go(&key);
        Ok(stands)
    }

    async fn stored(
        &mut self,
        bucket: Option<String>,
        key: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        let bucket = self.bucket(bucket.as_deref(), false)?;
        let key = Key::new(&bucket, key)?;
        let Some(value) = self.transaction()?.get(&key).await? else {
            return Ok(None);
        };
        if let Err(over) = self.meter.answer(value.bytes.len()) {
            // A guest that goes on asking would have more in memory than any budget allows.
            self.transaction()?.let_go(&key);
            return Err(over);
        }
        Ok(Some(value.bytes.to_vec()))
    }

    async fn scanned(
        &mut self,
        bucket: Option<String>,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<store::Entry>, Error> {
        if limit > MAX_SCANNED {
            return Err(Error::Invalid(format!("limit: at most {MAX_SCANNED}")));
        }
        let bucket = self.bucket(bucket.as_deref(), false)?;
        let most = Most {
            keys: limit as usize,
            bytes: self.meter.boundary_left(),
        };
        let transaction = self.transaction()?;
        let page = transaction.scan(&bucket, prefix, after, most).await?;
        let Page { entries, is_cut } = page;
        // A part would pass for the whole.
        if is_cut {
            return Err(self.meter.boundary_full());
        }
        let sizes = entries
            .iter()
            .map(|entry| entry.key.len() + entry.value.bytes.len());
        self.meter.answer(sizes.sum())?;
        let told = entries.into_iter().map(|entry| store::Entry {
            key: entry.key,
            value: entry.value.bytes.to_vec(),
        });
        Ok(told.collect())
    }

    fn set_value(
        &mut self,
        bucket: Option<String>,
        key: &str,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<(), Error> {
        let expires = match ttl_ms {
            None => None,
            Some(0) => return Err(Error::Invalid("ttl-ms: at least 1".to_owned())),
            Some(ttl) if Duration::from_millis(ttl) > MAX_TTL => {
                let most = duration::display(MAX_TTL);
                return Err(Error::Invalid(format!("ttl-ms: at most {most}")));
            }
            Some(ttl) => Some(self.now().saturating_add(ttl)),
        };
        let write = |transaction: &mut Transaction, key| {
            let most = transaction.store().config().max_value;
            if value.len() > most.as_usize() {
                return Err(Error::OverBudget(format!("max_value = {most}")));
            }
            let value = Value {
                bytes: value.into(),
                expires,
            };
            transaction.set(key, value);
            Ok(())
        };
        self.write(bucket, key, write)
    }

    fn write(
        &mut self,
        bucket: Option<String>,
        key: &str,
        write: impl FnOnce(&mut Transaction, Key) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let bucket = self.bucket(bucket.as_deref(), true)?;
        let key = Key::new(&bucket, key)?;
        self.transaction()?;
        self.meter.effect()?;
        write(self.transaction()?, key)
    }
}

impl From<InvalidKey> for Error {
    fn from(error: InvalidKey) -> Self {
        Self::Invalid(format!("key: {error}"))
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(reason) => Self::Unavailable(reason.to_string()),
            error => Self::Invalid(error.to_string()),
        }
    }
}

impl From<ScanError> for Error {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Key(error) => error.into(),
            ScanError::Commit(error) => error.into(),
        }
    }
}
