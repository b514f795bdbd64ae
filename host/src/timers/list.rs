//! The timers of plugins, for people.

use std::sync::Arc;

use serde::Serialize;

use super::{Kind, Timer, bucket};
use crate::store::{Most, ScanError, Store, Transaction};

/// No more timers of one plugin are listed, of each kind.
const MAX_LISTED: Most = Most {
    keys: 1000,
    bytes: 16 << 20,
};

/// A timer, for people.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub plugin: String,
    pub name: String,
    /// When it is due, in milliseconds since 1970.
    pub due: u64,
    /// When it is tried next.
    at: u64,
    /// After how many milliseconds it is due again, if it is.
    pub every: Option<u64>,
    /// What it was declared with, if it was.
    pub rule: Option<String>,
    /// How often it has failed since it was due.
    failures: u32,
    /// It is tried no more.
    given_up: bool,
}

impl Listed {
    /// When it is tried next; none if it is not.
    pub(crate) fn next(&self) -> Option<u64> {
        (!self.given_up).then_some(self.at)
    }

    /// Whether it is to be called now.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.next().is_some_and(|at| at <= now)
    }
}

/// The timers of these plugins. A disk is read at once.
pub(crate) async fn list<'a>(
    store: &Store,
    plugins: impl IntoIterator<Item = &'a Arc<str>>,
) -> Result<Vec<Listed>, ScanError> {
    let mut listed = Vec::new();
    let Some(store) = store.opened() else {
        return Ok(listed);
    };
    for plugin in plugins {
        for kind in Kind::ALL {
            let mut transaction = Transaction::new(store.clone());
            let bucket = bucket(kind, plugin);
            let page = transaction.scan(&bucket, "", None, MAX_LISTED);
            let timers = page.await?.entries.into_iter().filter_map(|row| {
                let timer = Timer::of_value(&row.value).ok()?;
                Some(Listed {
                    plugin: plugin.to_string(),
                    name: row.key,
                    due: timer.due,
                    at: timer.at,
                    every: timer.every,
                    rule: timer.rule,
                    failures: timer.failures,
                    given_up: timer.given_up,
                })
            });
            listed.extend(timers);
        }
    }
    Ok(listed)
}
