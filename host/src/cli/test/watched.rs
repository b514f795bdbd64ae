//! Whether something has changed that cases depend on.

use std::{
    collections::BTreeMap,
    fs, mem,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::select::below;

/// Files and folders, each as it looked before it was read.
#[derive(Default)]
pub(super) struct Watched(BTreeMap<PathBuf, Looks>);

#[derive(PartialEq)]
enum Looks {
    NotThere,
    File {
        modified: Option<SystemTime>,
        len: u64,
    },
    /// The files with cases that are in it.
    Folder(Vec<PathBuf>),
}

impl Watched {
    /// All of them are about to be read again.
    pub(super) fn look(&mut self) {
        for (path, looks) in &mut self.0 {
            *looks = Looks::of(path);
        }
    }

    /// These are about to be read, too.
    pub(super) fn add(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            let looks = |path: &PathBuf| Looks::of(path);
            self.0.entry(path).or_insert_with_key(looks);
        }
    }

    /// These are about to be read, or were, and no others.
    pub(super) fn only(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut known = mem::take(&mut self.0);
        for path in paths {
            let looks = known.remove(&path);
            let looks = |path: &PathBuf| looks.unwrap_or_else(|| Looks::of(path));
            self.0.entry(path).or_insert_with_key(looks);
        }
    }

    /// Whether one of them looks different now.
    pub(super) fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, looks)| *looks != Looks::of(path))
    }
}

impl Looks {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Err(_) => Self::NotThere,
            Ok(metadata) if metadata.is_dir() => {
                let mut files = below(path);
                files.sort();
                Self::Folder(files)
            }
            Ok(metadata) => Self::File {
                modified: metadata.modified().ok(),
                len: metadata.len(),
            },
        }
    }
}
