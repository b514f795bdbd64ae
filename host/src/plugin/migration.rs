//! Bringing what a plugin has stored into the form of a new version, before that serves.
//!
//! All batches are one transaction of the store, kept in memory until the last one has succeeded: whatever
//! happens before, a crash of the machine included, has changed nothing. The former version runs no call
//! meanwhile, so that nothing it writes is lost and nothing that was read changes; its calls wait, and go to the
//! new version when that has taken its place.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::{
    call_error::CallError,
    completed::{Completed, Spent},
    generation::Plugin,
    job::{Job, Reply},
};
use crate::{
    capability::Hold,
    guest::Rejection,
    store::{Bucket, CommitError, Key, Open, Transaction, Value},
    telemetry::Span,
    units::duration,
};

/// What the host keeps the version of what is stored under.
const BUCKET: &str = "migration";
const KEY: &str = "data-version";

/// Others may write meanwhile where buckets are shared: a migration runs from the start so often at most.
const MAX_CONFLICTS: u32 = 4;

/// Why a version cannot have what is stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationError {
    /// A later version has been here.
    #[error(
        "what is stored has the data version {stored}, and it knows none after {known}: a later version of \
         the plugin has stored it"
    )]
    Later {
        /// The version of what is stored.
        stored: u32,
        /// Its own.
        known: u32,
    },
    /// It failed, and would do so again.
    #[error(
        "its migration from the data version {stored} to {known} failed, and what is stored is as it was: {reason}"
    )]
    Failed {
        /// The version of what is stored.
        stored: u32,
        /// Its own.
        known: u32,
        /// Why.
        reason: String,
    },
    /// It may succeed another time.
    #[error("its migration is not possible now, and what is stored is as it was: {0}")]
    NotNow(String),
}

impl MigrationError {
    /// Whether the same version may migrate later, with nothing else changed.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::NotNow(_))
    }
}

/// What was done to what is stored, so that a version could have it.
#[derive(Debug, Clone, Serialize)]
pub struct Migration {
    /// The data version that was there.
    pub from: u32,
    /// The one that is there now.
    pub to: u32,
    /// In how many calls.
    pub batches: usize,
    /// How many keys were set, added to or deleted.
    pub keys: usize,
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            from,
            to,
            batches,
            keys,
        } = self;
        write!(
            f,
            "the data version {from} becomes {to} in {batches} batches, which write {keys} keys"
        )
    }
}

/// A migration that has been committed. The former version's calls wait until they are told of the new one.
#[must_use = "the calls of the former version wait"]
pub(crate) struct Migrated {
    former: Option<(Arc<Plugin>, Hold)>,
    new: Arc<Plugin>,
    done: Migration,
}

impl Migrated {
    /// What it did.
    pub(crate) fn done(&self) -> &Migration {
        &self.done
    }

    /// The new version serves: calls of the former go to it.
    pub(crate) fn hand_over(self) {
        if let Some((former, hold)) = self.former {
            // None of them begins any more.
            hold.keep();
            // It has one successor at most, as it is replaced once.
            let _ = former.successor().set(self.new);
        }
    }
}

/// Why a run of all batches came to nothing.
enum Stopped {
    Conflict,
    NotNow(String),
    Failed(String),
}

impl Plugin {
    /// Has what is stored brought into the form of this version, if it is in that of an earlier one. The
    /// `former` version, if one serves, runs nothing from now on, or goes on if this fails.
    pub(crate) async fn migrate(
        self: &Arc<Self>,
        former: Option<&Arc<Self>>,
    ) -> Result<Option<Migrated>, MigrationError> {
        let Some(store) = self.store() else {
            return Ok(None);
        };
        let not_now = |error: CommitError| MigrationError::NotNow(error.to_string());
        let known = self.data_version();
        let stored = stored_version(store, self.name()).await.map_err(not_now)?;
        if stored == known {
            return Ok(None);
        }
        if stored > known {
            return Err(MigrationError::Later { stored, known });
        }
        let began = Instant::now();
        let until = began + self.budget().migration;
        let former = match former {
            None => None,
            Some(former) => {
                let held = timeout_at(until, former.pool().hold()).await;
                let busy =
                    |_| MigrationError::NotNow("calls of the former version do not end".into());
                Some((former.clone(), held.map_err(busy)?))
            }
        };
        let stopped = match self
            .run_migration(store, stored, former.as_ref(), until)
            .await
        {
            Ok(done) => {
                let plugin = &**self.name();
                let took_ms = began.elapsed().as_millis() as u64;
                tracing::info!(
                    plugin,
                    from = stored,
                    to = known,
                    batches = done.batches,
                    took_ms,
                    "what the plugin has stored was migrated"
                );
                let new = self.clone();
                return Ok(Some(Migrated { former, new, done }));
            }
            Err(stopped) => stopped,
        };
        if let Some((former, _)) = &former {
            former.set_outdated(false);
        }
        Err(match stopped {
            Stopped::Failed(reason) => MigrationError::Failed {
                stored,
                known,
                reason,
            },
            Stopped::NotNow(reason) => MigrationError::NotNow(reason),
            Stopped::Conflict => MigrationError::NotNow("others keep writing what it reads".into()),
        })
    }

    /// Has a call's transaction hold only as long as what is stored is in this version's form: another server
    /// may have brought it into that of another one.
    pub(crate) fn expect_form(&self, transaction: &mut Transaction) {
        if transaction.is_shared() {
            transaction.expect(version_key(self.name()), self.data_version());
        }
    }

    /// Runs all batches and commits them; returns what they did.
    async fn run_migration(
        self: &Arc<Self>,
        store: &Open,
        stored: u32,
        former: Option<&(Arc<Self>, Hold)>,
        until: Instant,
    ) -> Result<Migration, Stopped> {
        for _ in 0..MAX_CONFLICTS {
            let running = timeout_at(until, self.run_batches(store, stored)).await;
            let (mut transaction, batches) = running
                .unwrap_or_else(|_| Err(Stopped::Failed(over_time(self.budget().migration))))?;
            let done = Migration {
                from: stored,
                to: self.data_version(),
                batches,
                keys: transaction.writes().len(),
            };
            write_version(&mut transaction, self.name(), done.to).await?;
            if let Some((former, _)) = former {
                // What of it is not committed by now never is: it knows nothing of the new form.
                former.set_outdated(true);
            }
            match store.commit_for_certain(*transaction).await {
                Ok(()) => return Ok(done),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some((former, _)) = former {
                former.set_outdated(false);
            }
        }
        Err(Stopped::Conflict)
    }

    async fn run_batches(
        self: &Arc<Self>,
        store: &Open,
        stored: u32,
    ) -> Result<(Box<Transaction>, usize), Stopped> {
        let mut transaction = Box::new(Transaction::new(store.clone()));
        let mut cursor = None;
        let mut batches = 0;
        loop {
            let job = Job::Migrate {
                from: stored,
                cursor,
                transaction,
            };
            let completed = self.start(job, Spent::default(), &Span::NONE).ended().await;
            batches += 1;
            (cursor, transaction) = batch(completed)?;
            let most = store.config().bucket_bytes;
            if transaction.set_bytes() > most.bytes() {
                let reason = format!("it writes more than bucket_bytes = {most}");
                return Err(Stopped::Failed(reason));
            }
            if cursor.is_none() {
                return Ok((transaction, batches));
            }
        }
    }
}

/// What came of one batch: where to go on, and all that was read and written so far.
fn batch(completed: Completed) -> Result<(Option<String>, Box<Transaction>), Stopped> {
    let Completed {
        reply, recorded, ..
    } = completed;
    let failed = |reason: &str| Stopped::Failed(reason.to_owned());
    let cursor = match reply {
        Ok(Reply::Migrate(Ok(cursor))) => cursor,
        Ok(Reply::Migrate(Err(Rejection { code, message, .. }))) => {
            return Err(Stopped::Failed(format!("{code}: {message}")));
        }
        Ok(_) => unreachable!("a batch of a migration ends with where to go on"),
        Err(error) if is_passing(&error) => return Err(Stopped::NotNow(error.to_string())),
        Err(error) => return Err(Stopped::Failed(error.to_string())),
    };
    if recorded.acted || !recorded.effects.is_empty() {
        return Err(failed(
            "it does something else than to store and set timers",
        ));
    }
    let transaction = recorded.transaction;
    Ok((
        cursor,
        transaction.ok_or_else(|| failed("it has no store"))?,
    ))
}

impl From<CommitError> for Stopped {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Conflict,
            CommitError::Unavailable(reason) => Self::NotNow(reason.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

fn over_time(limit: Duration) -> String {
    format!(
        "the budget migration = {} is used up",
        duration::display(limit)
    )
}

fn version_key(plugin: &str) -> Key {
    Key::new(&Bucket::of_host(BUCKET, plugin), KEY).expect("it is short and has no NUL")
}

/// The version of what is stored, 0 if that is nothing.
pub(crate) async fn stored_version(store: &Open, plugin: &str) -> Result<u32, CommitError> {
    let key = version_key(plugin);
    let value = Transaction::new(store.clone()).get(&key).await?;
    let text = value.map(|value| String::from_utf8_lossy(&value.bytes).into_owned());
    let version = text.map_or(Ok(0), |text| text.parse());
    version.map_err(|_| CommitError::Unavailable("the data version cannot be read".into()))
}

async fn write_version(
    transaction: &mut Transaction,
    plugin: &str,
    version: u32,
) -> Result<(), CommitError> {
    let key = version_key(plugin);
    // Whoever else migrates the same is a conflict.
    transaction.committed(&key).await?;
    let value = Value {
        bytes: version.to_string().into_bytes().into(),
        expires: None,
    };
    transaction.set(key, value);
    Ok(())
}

/// Whether a batch that failed so may succeed later, with nothing else changed.
fn is_passing(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Busy | CallError::Exhausted(_) | CallError::Store(_)
    )
}
