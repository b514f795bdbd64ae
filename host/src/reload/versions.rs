//! The versions of one plugin: which serves, which can be rolled back to, and how each came.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    inspection::{Change, Inspection},
    plugin::{Code, ContentHash},
    shorten::shortened,
};

/// So many loads are remembered.
const MAX_LOADS: usize = 20;

/// So many changes of each, and so much of the text of one.
const MAX_CHANGES: usize = 50;
const MAX_CHANGE_CHARS: usize = 300;

/// What is known of a plugin's versions.
#[derive(Default)]
pub(super) struct Versions {
    serving: Option<Version>,
    /// What the serving one has replaced: one at most, with its code.
    former: Option<Version>,
    /// What the file holds, if that was rolled back.
    rolled_back: Option<ContentHash>,
    /// The newest first.
    loads: Arc<VecDeque<Load>>,
}

/// A version that serves or did.
#[derive(Clone)]
pub(super) struct Version {
    /// What it was loaded from.
    pub code: Code,
    /// Its version, as it says.
    pub version: String,
    /// Which load it came with.
    pub generation: u64,
    /// What it says of itself.
    pub about: Arc<Inspection>,
}

/// What came of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Served,
    RolledBack,
    Refused,
}

/// One load of a plugin, for operators.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Load {
    /// When, in RFC 3339.
    at: String,
    outcome: Outcome,
    /// Who asked for it; none if a file had changed, or at the start.
    by: Option<String>,
    /// The version that it brought.
    version: Option<String>,
    generation: Option<u64>,
    took_ms: Option<u64>,
    /// Why it was refused.
    reason: Option<String>,
    /// What is different from the version before, as far as is remembered.
    changes: Vec<Change>,
    /// How many changes more there were.
    more_changes: usize,
}

/// The version that a plugin can be rolled back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Former {
    version: String,
    pub(super) generation: u64,
}

impl Versions {
    /// The version that serves.
    pub(super) fn serving(&self) -> Option<&Version> {
        self.serving.as_ref()
    }

    /// The version that can be rolled back to, if one is kept.
    pub(super) fn former(&self) -> Option<&Version> {
        self.former.as_ref()
    }

    /// The same, for operators.
    pub(super) fn rollback_to(&self) -> Option<Former> {
        self.former.as_ref().map(|former| Former {
            version: former.version.clone(),
            generation: former.generation,
        })
    }

    /// Whether another version serves than the file's, because somebody wanted that.
    pub(super) fn is_rolled_back(&self) -> bool {
        self.rolled_back.is_some()
    }

    /// What is loaded instead of this content of the file, if that was rolled back.
    pub(super) fn instead_of(&self, file: ContentHash) -> Option<&Code> {
        let is_rolled_back = self.rolled_back == Some(file);
        let serving = self.serving.as_ref().filter(|_| is_rolled_back)?;
        Some(&serving.code)
    }

    /// The file counts again.
    pub(super) fn follow_file(&mut self) {
        self.rolled_back = None;
    }

    /// A version has been put in place of the one that served. `file` is what the file holds, if that is not
    /// what serves.
    pub(super) fn serve(
        &mut self,
        new: Version,
        file: Option<ContentHash>,
        changes: Vec<Change>,
        took: Duration,
        by: Option<Arc<str>>,
    ) {
        let (more_changes, changes) = bounded(changes);
        let is_rollback = file.is_some();
        self.remember(Load {
            outcome: match is_rollback {
                true => Outcome::RolledBack,
                false => Outcome::Served,
            },
            version: Some(new.version.clone()),
            generation: Some(new.generation),
            took_ms: Some(took.as_millis() as u64),
            changes,
            more_changes,
            ..Load::new(Outcome::Served, by)
        });
        let replaced = self.serving.take();
        let is_other = |old: &Version| old.code.hash() != new.code.hash();
        if let Some(replaced) = replaced.filter(is_other) {
            // What somebody has rolled back is on the disk still, and comes back by a reload.
            self.former = (!is_rollback).then_some(replaced);
        }
        self.rolled_back = file;
        self.serving = Some(new);
    }

    /// A load was refused.
    pub(super) fn refuse(&mut self, reason: &str, by: Option<Arc<str>>) {
        self.remember(Load {
            reason: Some(reason.to_owned()),
            ..Load::new(Outcome::Refused, by)
        });
    }

    /// The last loads, the newest first.
    pub(super) fn loads(&self) -> Arc<VecDeque<Load>> {
        self.loads.clone()
    }

    fn remember(&mut self, load: Load) {
        let loads = Arc::make_mut(&mut self.loads);
        loads.push_front(load);
        loads.truncate(MAX_LOADS);
    }
}

impl Load {
    fn new(outcome: Outcome, by: Option<Arc<str>>) -> Self {
        Self {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            outcome,
            by: by.map(|by| by.to_string()),
            version: None,
            generation: None,
            took_ms: None,
            reason: None,
            changes: Vec::new(),
            more_changes: 0,
        }
    }
}

/// How many are left out, and the others.
fn bounded(mut changes: Vec<Change>) -> (usize, Vec<Change>) {
    // Those that matter are kept.
    changes.sort_by_key(|change| !change.breaking);
    let more = changes.len().saturating_sub(MAX_CHANGES);
    changes.truncate(MAX_CHANGES);
    for change in &mut changes {
        change.what = shortened(&change.what, MAX_CHANGE_CHARS);
    }
    (more, changes)
}
