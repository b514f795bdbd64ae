//! Which files changed, as the operating system tells.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::plugin::is_script;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// Files of scripts, and nothing else.
    Scripts,
    /// Any files.
    Files,
}

/// Watches the folders of files. A file itself cannot be watched for long: it is replaced.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: HashSet<PathBuf>,
    files: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Watch {
    /// Sends on `events` when a followed file may have changed. Several changes may be one event.
    pub(super) fn new(events: mpsc::Sender<Changed>) -> Self {
        let files: Arc<Mutex<HashSet<PathBuf>>> = Arc::default();
        let followed = files.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            let changed = match &event {
                Ok(event) if matches!(event.kind, EventKind::Access(_)) => None,
                Ok(event) => {
                    let followed = followed.lock();
                    let mut changed = event.paths.iter().filter(|path| followed.contains(*path));
                    let first = changed.next();
                    let are_scripts = first.into_iter().chain(changed).all(|path| is_script(path));
                    first.map(|_| match are_scripts {
                        true => Changed::Scripts,
                        false => Changed::Files,
                    })
                }
                // The queue overflowed or the like: better look.
                Err(_) => Some(Changed::Files),
            };
            if let Some(changed) = changed {
                // Full means that the task is about to look, at all of them.
                let _ = events.try_send(changed);
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|error| tracing::warn!(%error, "files are polled instead of watched"));
        Self {
            watcher: watcher.ok(),
            folders: HashSet::new(),
            files,
        }
    }

    /// Follows these files from now on.
    pub(super) fn follow(&mut self, paths: Vec<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let files: HashSet<PathBuf> = paths
            .iter()
            .filter_map(|path| std::path::absolute(path).ok())
            .collect();
        let folders: HashSet<PathBuf> = files
            .iter()
            .filter_map(|path| path.parent())
            .map(Path::to_owned)
            .collect();
        for gone in self.folders.difference(&folders) {
            // It may have been deleted, which ends the watch as well.
            let _ = watcher.unwatch(gone);
        }
        self.folders
            .retain(|folder| folders.contains(folder) && folder.is_dir());
        for folder in folders {
            if !self.folders.contains(&folder)
                && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok()
            {
                self.folders.insert(folder);
            }
        }
        *self.files.lock() = files;
    }
}
