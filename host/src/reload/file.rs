//! How a file looks, what it holds, and whether it has to be looked at again.
//!
//! How a file looked is remembered only when what it held was dealt with for good. What failed for a
//! passing reason leaves no trace but the time of the next try.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    plugin::{Code, Reading, too_large},
    units::Size,
};

/// How long a file is left alone that has become empty, or names fewer plugins: whoever writes it may
/// have begun, and have the rest of it still to come.
pub(super) const EMPTIED_WAIT: Duration = Duration::from_secs(5);

/// A file that changed so lately may change again and look the same: the clock of file systems ticks
/// no more often than this.
const CLOCK_TICK: Duration = Duration::from_millis(50);

/// How often the files of a script are read, at most, whose imports change meanwhile.
const READINGS: usize = 3;

/// How a file looks from outside, and those that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    file: FileStamp,
    /// None of those that are not there.
    imports: Vec<(PathBuf, Option<FileStamp>)>,
}

/// How one file looks. A rename, a write and a touch all change it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds of the last change of content or metadata; unlike `modified`, it
    /// cannot be set back.
    changed: (i64, i64),
    len: u64,
    inode: u64,
}

impl Stamp {
    /// Of a file to which these others belong; none if there is no such file.
    pub(super) fn of(path: &Path, imports: &[PathBuf]) -> Option<Self> {
        let file = FileStamp::of(path)?;
        let imports = imports.iter();
        Some(Self {
            file,
            imports: imports
                .map(|path| (path.clone(), FileStamp::of(path)))
                .collect(),
        })
    }

    /// The files that belong to it.
    pub(super) fn imports(&self) -> impl Iterator<Item = &PathBuf> {
        self.imports.iter().map(|(path, _)| path)
    }

    /// Whether the file has no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.file.len == 0
    }

    /// Whether every change of the files after `now` will show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let imports = self.imports.iter().filter_map(|(_, stamp)| stamp.as_ref());
        imports
            .chain([&self.file])
            .all(|stamp| stamp.is_settled(now))
    }
}

impl FileStamp {
    /// Links are followed.
    fn of(path: &Path) -> Option<Self> {
        fs::metadata(path)
            .ok()
            .map(|metadata| Self::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            len: metadata.len(),
            inode: metadata.ino(),
        }
    }

    /// Whether every change of the file after `now` will show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since_epoch = Duration::new(seconds.try_into().unwrap_or(0), nanoseconds as u32);
        let age = now.duration_since(SystemTime::UNIX_EPOCH + since_epoch);
        // A time to come is one of another machine's clock.
        age.map_or(true, |age| age > CLOCK_TICK)
    }
}

/// What is known of a file that is followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// How it looked when what it held was last dealt with for good.
    seen: Option<Stamp>,
    /// Why that has to wait, if it has to.
    postponed: Option<Postponed>,
}

/// A file that looks like this is not dealt with before then.
#[derive(Debug)]
struct Postponed {
    stamp: Option<Stamp>,
    since: Instant,
    until: Instant,
}

impl Followed {
    /// How the file looked when it was last dealt with for good.
    pub(super) fn seen(&self) -> Option<&Stamp> {
        self.seen.as_ref()
    }

    /// Whether a file that looks like this now has to be dealt with.
    pub(super) fn is_due(&self, now: Option<&Stamp>) -> bool {
        match &self.postponed {
            Some(postponed) if postponed.stamp.as_ref() == now => Instant::now() >= postponed.until,
            _ => self.seen.as_ref() != now,
        }
    }

    /// What a file that looked like this held was dealt with for good.
    pub(super) fn dealt_with(&mut self, stamp: Option<Stamp>) {
        let now = SystemTime::now();
        self.seen = stamp.filter(|stamp| stamp.is_settled(now));
        self.postponed = None;
    }

    /// A file that looks like this is to be dealt with later, counted from when it first looked so.
    /// Whether it is later now.
    pub(super) fn postpone(&mut self, stamp: Option<Stamp>, wait: Duration) -> bool {
        let now = Instant::now();
        let former = self.postponed.take();
        let since = former
            .filter(|postponed| postponed.stamp == stamp)
            .map_or(now, |postponed| postponed.since);
        let until = since + wait;
        self.seen = None;
        self.postponed = Some(Postponed {
            stamp,
            since,
            until,
        });
        now >= until
    }

    /// It is to be dealt with, however it looks.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What a look at a plugin's file brought.
pub(super) enum Look {
    /// It looks as it did when it was last dealt with.
    Same,
    /// What it holds.
    Content(Stamp, Code),
    /// It has no bytes.
    Empty(Stamp),
    /// It is nothing that could be loaded, as long as it looks like this.
    Unfit(Stamp, String),
    /// It is not there.
    Missing(String),
    /// It could not be read. The next try may succeed, even if it looks the same.
    Unreadable(String),
}

/// Looks at a plugin's file, of which `limit` bytes may be loaded, and at those that are known to belong to
/// it. It blocks.
pub(super) fn look(path: &Path, limit: Size, seen: Option<&Stamp>, imports: &[PathBuf]) -> Look {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Look::Missing(format!("{}: no such file", path.display())),
        _ => Look::Unreadable(format!("{}: {error}", path.display())),
    };
    // Before it is opened: a pipe would wait for somebody to write.
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return unreadable(error),
    };
    let Some(mut stamp) = Stamp::of(path, imports) else {
        return unreadable(io::ErrorKind::NotFound.into());
    };
    if seen == Some(&stamp) {
        return Look::Same;
    }
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "Is a directory"
        } else {
            "not a file"
        };
        return Look::Unfit(stamp, format!("{}: {what}", path.display()));
    }
    if metadata.len() > limit.bytes() {
        return Look::Unfit(stamp, too_large(metadata.len(), limit));
    }
    for _ in 0..READINGS {
        let reading = match Code::read(path, limit) {
            Ok(reading) => reading,
            Err(error) => return unreadable(error),
        };
        if !stamp.imports().eq(&reading.imports) {
            // They are looked at before they are read: what changes in between would not show.
            match Stamp::of(path, &reading.imports) {
                Some(changed) => stamp = changed,
                None => return unreadable(io::ErrorKind::NotFound.into()),
            }
            continue;
        }
        return match reading {
            Reading { is_empty: true, .. } => Look::Empty(stamp),
            Reading { code: Ok(code), .. } => Look::Content(stamp, code),
            Reading {
                code: Err(reason), ..
            } => Look::Unfit(stamp, reason),
        };
    }
    Look::Unreadable(format!("{}: it keeps changing", path.display()))
}

#[cfg(test)]
mod tests;
