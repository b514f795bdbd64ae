//! Which files changed, as the operating system tells.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Watches the folders of files. A file itself cannot be watched for long: it is replaced.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: HashSet<PathBuf>,
    files: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Watch {
    /// Sends on `events` when a followed file may have changed. Several changes may be one event.
    pub(super) fn new(events: mpsc::Sender<()>) -> Self {
        let files: Arc<Mutex<HashSet<PathBuf>>> = Arc::default();
        let followed = files.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            let relevant = match &event {
                Ok(event) if matches!(event.kind, EventKind::Access(_)) => false,
                Ok(event) => {
                    let followed = followed.lock();
                    event.paths.iter().any(|path| followed.contains(path))
                }
                // The queue overflowed or the like: better look.
                Err(_) => true,
            };
            if relevant {
                // Full means that the task knows already.
                let _ = events.try_send(());
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
