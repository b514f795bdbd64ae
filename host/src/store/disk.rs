//! The file, or the memory, that what was committed ends up in: redb, with a table of the values, one of
//! what each bucket holds, and one of the keys that have a time to live.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    backends::InMemoryBackend,
};

use super::{Bucket, Key, Usage, Value, rehearsal::Rehearsal, transaction::Range};
use crate::panics;

/// Values by their keys: when they are gone in milliseconds since 1970, or 0, in eight bytes, and then
/// their bytes.
const VALUES: TableDefinition<&str, &[u8]> = TableDefinition::new("values");

/// Keys and bytes of each bucket.
const USAGE: TableDefinition<&str, (u64, u64)> = TableDefinition::new("usage");

/// Keys that are gone at some time, behind that time.
const EXPIRIES: TableDefinition<(u64, &str), ()> = TableDefinition::new("expiries");

/// What is to be known of the file itself.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");

/// The key in [`ABOUT`] of the version of these tables.
const FORMAT: &str = "format";

/// The key in [`ABOUT`] of how many batches were written.
const BATCHES: &str = "batches";

/// The version of these tables that this host reads and writes.
const CURRENT_FORMAT: u64 = 1;

/// What of the file is kept in memory, in bytes. The system keeps more.
const CACHE_BYTES: usize = 64 << 20;

/// How long a reader waits for another one to find out whether a disk that hangs can be read.
const READ_PATIENCE: Duration = Duration::from_millis(50);

/// How long those who read are waited for when it is closed, and how often it is looked whether they have ended.
const READERS_PATIENCE: Duration = Duration::from_secs(1);
const READERS_INTERVAL: Duration = Duration::from_millis(1);

const EXPIRY_BYTES: usize = size_of::<u64>();

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder cannot be made.
    #[error("the store's folder {}: {source}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store {} is used by another process", .0.display())]
    Locked(PathBuf),
    /// The file is none, or is damaged.
    #[error("the store {} is damaged, or no store: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer host wrote it.
    #[error(
        "the store {} is of format {found}, and this host knows formats up to {CURRENT_FORMAT}: it \
         was written by a newer version", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The system refuses it.
    #[error("the store {}: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no thread for it.
    #[error("the store's writer cannot be started: {0}")]
    Thread(io::Error),
}

/// What a disk holds, as far as it has to be known at once.
#[derive(Default)]
pub(super) struct Held {
    /// Of each bucket.
    pub usage: HashMap<Bucket, Usage>,
    /// Keys with a time to live.
    pub expiries: BTreeSet<(u64, Key)>,
    /// How many batches were written to it.
    batches: u64,
}

/// What is there after a failure.
pub(super) struct Reopened {
    /// What the disk holds.
    pub held: Held,
    /// Whether it holds the batch that was the last one to be written, and may have failed.
    pub has_last: bool,
}

/// What is written at once.
#[derive(Default)]
pub(super) struct Batch {
    /// Keys, each with its value if it has one.
    pub values: Vec<(Key, Option<Value>)>,
    /// What buckets hold from now on.
    pub usage: Vec<(Bucket, Usage)>,
}

/// The database.
pub(super) struct Disk {
    /// None: in memory.
    path: Option<PathBuf>,
    /// None while it is closed, after the system has failed at it.
    database: ArcSwapOption<Database>,
    /// How many batches it holds.
    batches: AtomicU64,
    /// Since when it is written to.
    writes_since: Mutex<Option<Instant>>,
    /// A write that takes longer hangs.
    patience: Duration,
    /// The one who reads while it hangs.
    reader: Mutex<()>,
    #[cfg(test)]
    pub(super) faults: super::faults::Faults,
}

impl Disk {
    /// Opens a file, or makes one; none: in memory.
    pub(super) fn open(
        path: Option<PathBuf>,
        patience: Duration,
    ) -> Result<(Self, Held), OpenError> {
        let opened = open(path.as_deref())?;
        Ok(Self::of(opened, path, patience))
    }

    /// Opens a file as far as that can be done without writing to it; what is written is kept in memory.
    pub(super) fn rehearse(path: &Path, patience: Duration) -> Result<(Self, Held), OpenError> {
        let opened = rehearse(path)?;
        // It has nothing to be opened anew after a failure.
        Ok(Self::of(opened, None, patience))
    }

    fn of(
        (database, held): (Database, Held),
        path: Option<PathBuf>,
        patience: Duration,
    ) -> (Self, Held) {
        let disk = Self {
            path,
            database: ArcSwapOption::from_pointee(database),
            batches: AtomicU64::new(held.batches),
            writes_since: Mutex::default(),
            patience,
            reader: Mutex::default(),
            #[cfg(test)]
            faults: Default::default(),
        };
        (disk, held)
    }

    /// Closes it, so that nothing has to be repaired when it is opened again, however long others keep the store.
    /// Those who read it at this moment may take a moment to end.
    pub(super) fn close(&self) {
        let Some(database) = self.database.swap(None) else {
            return;
        };
        let open = Arc::downgrade(&database);
        drop(database);
        let since = Instant::now();
        while open.strong_count() > 0 && since.elapsed() < READERS_PATIENCE {
            thread::sleep(READERS_INTERVAL);
        }
    }

    /// Opens it again after a failure, and says what it holds; none if it is in memory.
    pub(super) fn reopen(&self) -> Result<Option<Reopened>, OpenError> {
        if self.path.is_none() {
            return Ok(None);
        }
        let _write = Writes::begin(self);
        // It is locked as long as it is open.
        self.database.store(None);
        let (database, held) = open(self.path.as_deref())?;
        self.database.store(Some(Arc::new(database)));
        let before = self.batches.swap(held.batches, Ordering::Relaxed);
        let has_last = held.batches > before;
        Ok(Some(Reopened { held, has_last }))
    }

    /// Why nothing is to be expected of it now; none if it answers.
    pub(super) fn hangs(&self) -> Option<Arc<str>> {
        let since = *self.writes_since.lock();
        let hangs = since.is_some_and(|since| since.elapsed() >= self.patience);
        hangs.then(|| "the disk does not answer".into())
    }

    /// A key's value, whether its time is over or not.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Value>, Arc<str>> {
        self.reading(|database| {
            let values = database.begin_read()?.open_table(VALUES)?;
            Ok(values
                .get(key.as_str())?
                .map(|value| decoded(value.value())))
        })
    }

    /// Hands over the keys of a range, with their values, until `take` has enough.
    pub(super) fn range(
        &self,
        range: &Range,
        mut take: impl FnMut(Key, Value) -> bool,
    ) -> Result<(), Arc<str>> {
        self.reading(|database| {
            let values = database.begin_read()?.open_table(VALUES)?;
            for row in values.range::<&str>((range.from(), Bound::Unbounded))? {
                let (key, value) = row?;
                let is_in = range.covers(key.value());
                #[cfg(test)]
                self.faults.rows_read.fetch_add(1, Ordering::Relaxed);
                if !is_in || !take(Key::parse(key.value()), decoded(value.value())) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Writes a batch, all of it or nothing. It is durable then. An empty one says whether anything could
    /// be written.
    pub(super) fn write(&self, batch: &Batch) -> Result<(), Arc<str>> {
        let _write = Writes::begin(self);
        #[cfg(test)]
        self.faults.before_write()?;
        let batches = self.batches.load(Ordering::Relaxed) + 1;
        self.with(|database| {
            let mut write = database.begin_write()?;
            let durability = match self.path {
                Some(_) => Durability::Immediate,
                None => Durability::None,
            };
            write.set_durability(durability)?;
            write.open_table(ABOUT)?.insert(BATCHES, batches)?;
            {
                let mut values = write.open_table(VALUES)?;
                let mut expiries = write.open_table(EXPIRIES)?;
                for (key, value) in &batch.values {
                    let former = match value {
                        Some(value) => values.insert(key.as_str(), &*encoded(value))?,
                        None => values.remove(key.as_str())?,
                    };
                    let former = former.and_then(|former| decoded(former.value()).expires);
                    if let Some(expires) = former {
                        expiries.remove((expires, key.as_str()))?;
                    }
                    if let Some(expires) = value.as_ref().and_then(|value| value.expires) {
                        expiries.insert((expires, key.as_str()), ())?;
                    }
                }
                let mut usage = write.open_table(USAGE)?;
                for (bucket, used) in &batch.usage {
                    match used.keys {
                        0 => drop(usage.remove(bucket.as_str())?),
                        keys => drop(usage.insert(bucket.as_str(), (keys, used.bytes))?),
                    }
                }
            }
            write.commit()?;
            Ok(())
        })?;
        #[cfg(test)]
        self.faults.after_write()?;
        self.batches.store(batches, Ordering::Relaxed);
        Ok(())
    }

    /// Reads. While it hangs, one at a time does, since nobody knows whether it answers: the threads of the
    /// others are for those who need no disk.
    fn reading<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Arc<str>> {
        let _reader = match self.hangs() {
            Some(reason) => Some(self.reader.try_lock_for(READ_PATIENCE).ok_or(reason)?),
            None => None,
        };
        self.with(work)
    }

    /// Works with the database. A damaged page may have it panic.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Arc<str>> {
        let database = self.database.load_full();
        let Some(database) = database else {
            return Err("the store's file cannot be opened".into());
        };
        match catch_unwind(AssertUnwindSafe(|| work(&database))) {
            Ok(worked) => worked.map_err(|error| error.to_string().into()),
            Err(panic) => Err(format!("it is damaged: {}", panics::message(&*panic)).into()),
        }
    }
}

/// A write that is under way.
struct Writes<'a>(&'a Disk);

impl<'a> Writes<'a> {
    fn begin(disk: &'a Disk) -> Self {
        *disk.writes_since.lock() = Some(Instant::now());
        Self(disk)
    }
}

impl Drop for Writes<'_> {
    fn drop(&mut self) {
        *self.0.writes_since.lock() = None;
    }
}

fn open(path: Option<&Path>) -> Result<(Database, Held), OpenError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    let Some(path) = path else {
        let memory = builder.create_with_backend(InMemoryBackend::new());
        let database = memory.map_err(|error| unreadable(None, &error.into()))?;
        prepare(&database).map_err(|error| unreadable(None, &error))?;
        return Ok((database, Held::default()));
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| OpenError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
    }
    let is_new = fs::metadata(path).map_or(true, |file| file.len() == 0);
    let opened = understood(path, || builder.create(path));
    let is_others = matches!(opened, Err(OpenError::Locked(_)));
    if is_new && opened.is_err() && !is_others {
        // What is there of it would be taken for a damaged one when there is room again.
        fs::remove_file(path).ok();
    }
    opened
}

fn rehearse(path: &Path) -> Result<(Database, Held), OpenError> {
    let file = Rehearsal::of(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked(path.to_owned()),
        _ => unreadable(Some(path), &error.into()),
    })?;
    let Some(file) = file else {
        return open(None);
    };
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    understood(path, || builder.create_with_backend(file))
}

/// A file's database with what it holds, if this host understands it.
fn understood(
    path: &Path,
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<(Database, Held), OpenError> {
    let damaged = |reason: String| OpenError::Damaged {
        path: path.to_owned(),
        reason,
    };
    // A damaged file may have it panic.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = open()?;
        let format = prepare(&database)?;
        let held = match format {
            CURRENT_FORMAT => held(&database)?,
            _ => Held::default(),
        };
        Ok((database, format, held))
    }));
    let opened: Result<Result<_, redb::Error>, _> = opened;
    let opened = match opened {
        Ok(opened) => opened.map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::Locked(path.to_owned()),
            error if is_damage(&error) => damaged(error.to_string()),
            error => unreadable(Some(path), &error),
        }),
        Err(panic) => Err(damaged(panics::message(&*panic))),
    };
    let (database, found, held) = opened?;
    if found > CURRENT_FORMAT {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    Ok((database, held))
}

/// Whether it is the file that is at fault, and not the system.
fn is_damage(error: &redb::Error) -> bool {
    use redb::Error;
    match error {
        Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. } => true,
        _ => false,
    }
}

fn unreadable(path: Option<&Path>, error: &redb::Error) -> OpenError {
    OpenError::Unreadable {
        path: path.unwrap_or(Path::new("in memory")).to_owned(),
        reason: error.to_string(),
    }
}

/// Makes what a new database lacks. Returns its format.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let write = database.begin_write()?;
    let format = {
        let mut about = write.open_table(ABOUT)?;
        let found = about.get(FORMAT)?.map(|found| found.value());
        if found.is_none() {
            about.insert(FORMAT, CURRENT_FORMAT)?;
        }
        found.unwrap_or(CURRENT_FORMAT)
    };
    if format > CURRENT_FORMAT {
        write.abort()?;
        return Ok(format);
    }
    write.open_table(VALUES)?;
    write.open_table(USAGE)?;
    write.open_table(EXPIRIES)?;
    write.commit()?;
    Ok(format)
}

fn held(database: &Database) -> Result<Held, redb::Error> {
    let read = database.begin_read()?;
    let batches = read.open_table(ABOUT)?.get(BATCHES)?;
    let mut held = Held {
        batches: batches.map_or(0, |batches| batches.value()),
        ..Held::default()
    };
    for row in read.open_table(USAGE)?.iter()? {
        let (bucket, used) = row?;
        let (keys, bytes) = used.value();
        held.usage
            .insert(Bucket::parse(bucket.value()), Usage { keys, bytes });
    }
    for row in read.open_table(EXPIRIES)?.iter()? {
        let (expiry, _) = row?;
        let (expires, key) = expiry.value();
        held.expiries.insert((expires, Key::parse(key)));
    }
    Ok(held)
}

fn encoded(value: &Value) -> Vec<u8> {
    let expires = value.expires.unwrap_or(0).to_le_bytes();
    [&expires[..], &value.bytes].concat()
}

fn decoded(stored: &[u8]) -> Value {
    let (expires, bytes) = stored
        .split_at_checked(EXPIRY_BYTES)
        .unwrap_or((&[], stored));
    let expires = expires.try_into().map_or(0, u64::from_le_bytes);
    Value {
        bytes: bytes.into(),
        expires: (expires > 0).then_some(expires),
    }
}
