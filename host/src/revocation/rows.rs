//! Revocations as rows of the store: each has a number, and whoever has read up to one reads on behind it.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::Revocation;
use crate::store::{
    Bucket, CommitError, Key, Most, Open, OpenError, ScanError, Store, Transaction, Value,
};

/// What the keys of revocations begin with; their numbers follow.
const ROW: &str = "row/";

/// The key with the number of the last one.
const LAST: &str = "last";

/// So often a revocation is tried that meets those of other servers.
const TRIES: u32 = 100;

/// So much is read at once.
const PAGE: Most = Most {
    keys: 1000,
    bytes: 4 << 20,
};

/// What was read of the rows.
#[derive(Default)]
pub(super) struct Rows {
    /// The number of the last one that was read.
    read: AtomicU64,
    /// The last look at the store failed.
    failed: AtomicBool,
    /// All are read, and nobody else adds any.
    is_complete: AtomicBool,
    /// One reads at a time.
    reading: Mutex<()>,
    /// One writes at a time: all would meet at the number of the last one.
    keeping: Mutex<()>,
}

/// Why a revocation is not kept, or those that are cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// There is no store to be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store does not take it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

async fn keep_once(store: &Open, revocation: &Revocation) -> Result<(), NotKept> {
    let mut transaction = Transaction::new(store.clone());
    let number = last(&mut transaction).await? + 1;
    let expires = Some(revocation.until.saturating_mul(1000));
    let row = serde_json::to_vec(revocation).expect("texts and numbers always serialise");
    let value = |bytes: Vec<u8>, expires| Value {
        bytes: bytes.into(),
        expires,
    };
    transaction.set(key(row_key(number)), value(row, expires));
    let number = number.to_string().into_bytes();
    transaction.set(key(LAST), value(number, None));
    Ok(store.commit_alone(transaction).await?)
}

impl Rows {
    /// Keeps a revocation, and returns when that is durable. Blocks.
    pub(super) fn keep(&self, store: &Store, revocation: &Revocation) -> Result<(), NotKept> {
        let _keeping = self.keeping.lock();
        let store = store.open()?;
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(async {
            for _ in 1..TRIES {
                match keep_once(&store, revocation).await {
                    Err(NotKept::Commit(CommitError::Conflict)) => {}
                    kept => return kept,
                }
            }
            keep_once(&store, revocation).await
        })
    }

    /// Gives `add` those that were not read before. A store on disk that does not exist yet has none, and is not
    /// made for that. Blocks.
    pub(super) fn read(&self, store: &Store, add: impl FnMut(Revocation)) -> Result<(), NotKept> {
        let _reading = self.reading.lock();
        let read = self.read_on(store, add);
        self.failed.store(read.is_err(), Ordering::Relaxed);
        // A file is this server's alone.
        let is_complete = read.is_ok() && !store.is_shared();
        self.is_complete.store(is_complete, Ordering::Relaxed);
        read
    }

    /// Whether all are read, and nobody else adds any.
    pub(super) fn are_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// Whether there may be some that were not read.
    pub(super) fn are_unread(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn read_on(&self, store: &Store, mut add: impl FnMut(Revocation)) -> Result<(), NotKept> {
        if store.opened().is_none() && !store.exists() {
            return Ok(());
        }
        let store = store.open()?;
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(async {
            let known = self.read.load(Ordering::Relaxed);
            let mut transaction = Transaction::new(store.clone());
            let last = last(&mut transaction).await?;
            if last == known {
                return Ok(());
            }
            // One whose numbers begin anew has lost what it had.
            let mut after = (last > known).then(|| row_key(known));
            loop {
                let mut transaction = Transaction::new(store.clone());
                let page = transaction
                    .scan(&bucket(), ROW, after.as_deref(), PAGE)
                    .await?;
                for row in &page.entries {
                    match serde_json::from_slice(&row.value.bytes) {
                        Ok(revocation) => add(revocation),
                        Err(error) => {
                            tracing::error!(row = row.key, "a revocation cannot be read: {error}")
                        }
                    }
                }
                let Some(row) = page.entries.last().filter(|_| page.is_cut) else {
                    break;
                };
                after = Some(row.key.clone());
            }
            self.read.store(last, Ordering::Relaxed);
            Ok(())
        })
    }
}

/// The number of the last one; 0 if there is none.
async fn last(transaction: &mut Transaction) -> Result<u64, NotKept> {
    let Some(value) = transaction.get(&key(LAST)).await? else {
        return Ok(0);
    };
    let number = String::from_utf8_lossy(&value.bytes).parse();
    let unreadable =
        |_| CommitError::Unavailable("the number of the last revocation cannot be read".into());
    Ok(number.map_err(unreadable)?)
}

fn bucket() -> Bucket {
    Bucket::of_host("revocations", "all")
}

/// Sorts by its number.
fn row_key(number: u64) -> String {
    format!("{ROW}{number:020}")
}

fn key(name: impl fmt::Display) -> Key {
    Key::new(&bucket(), &name.to_string()).expect("it is short and has no NUL")
}
