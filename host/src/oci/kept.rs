//! The folder of what was pulled. Its files are not held against their digests again, which are those of artifacts: they
//! are believed because nobody else can have put them there.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::plugin::{Distrust, check_file};

/// What its files end with.
const EXTENSION: &str = ".wasm";

/// What files end with that are being written.
pub(super) const UNFINISHED: &str = ".part";

/// How old a file is that another process can no longer be writing.
const ABANDONED: Duration = Duration::from_secs(600);

/// What was used within this time stays, however much there is: servers may need it that have the folder in common.
const RECENT: Duration = Duration::from_secs(24 * 60 * 60);

/// How many bytes all files may have together, beyond those that are recent.
const MAX_BYTES: u64 = 1 << 30;

/// How many there may be.
const MAX_FILES: usize = 1000;

/// Why a file is not what was pulled into it; none if nobody but this user and root can have changed it.
pub(crate) fn doubt(file: &Path) -> Option<String> {
    match check_file(file) {
        // It is said elsewhere that it is not there.
        Err(Distrust::Unknown { .. }) | Ok(()) => None,
        Err(distrust) => Some(distrust.to_string()),
    }
}

/// Says that a file is used from now on, if it is there. It does not matter if that cannot be written.
pub(crate) fn touch(file: &Path) {
    if let Ok(file) = File::open(file) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Removes what was abandoned half, and the files that were not used for longest, until the rest is within its bounds.
pub(super) fn make_room(folder: &Path) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        // Another process may have removed it meanwhile.
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if name.ends_with(EXTENSION) && metadata.is_file() {
            files.push((used, metadata.len(), path));
        } else if name.ends_with(UNFINISHED) && is_older(used, ABANDONED) {
            let _ = fs::remove_file(&path);
        }
    }
    files.sort_unstable_by(|one, other| other.cmp(one));
    let mut bytes = 0;
    for (index, (used, len, path)) in files.iter().enumerate() {
        bytes += len;
        if (index >= MAX_FILES || bytes > MAX_BYTES) && is_older(*used, RECENT) {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

fn is_older(time: SystemTime, than: Duration) -> bool {
    time.elapsed().is_ok_and(|age| age > than)
}
