//! Files that are nobody's business but this user's.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// A new file, which its owner alone may read and write; it takes the place of what was there. The mode is set only when
/// a file is made, and nothing is written through a link.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    // What cannot be removed is still there, and no new file is made then.
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}
