//! The file between two processes: a mark, a version, a checksum over what follows, and that. Nobody but its
//! owner may read it: who knows a connection's private id can have it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::process::geteuid;
use sha2::{Digest, Sha256};

use crate::private_file;

const MARK: &[u8; 8] = b"mixlab>>";

/// The version of what is in it.
const VERSION: u32 = 1;

const CHECKSUM_BYTES: usize = 32;
const HEAD_BYTES: usize = MARK.len() + size_of::<u32>() + CHECKSUM_BYTES;

/// What others may do with a file.
const OTHERS: u32 = 0o077;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It cannot be read, or stays.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// Others than this user have, or had, a part in it.
    #[error("others than this user can read or write it, or it is no file")]
    NotOwn,
    /// It is larger than what it was made of may be.
    #[error("it has {found} bytes, and [recovery] max_bytes is {allowed}")]
    TooLarge {
        /// Its bytes.
        found: u64,
        /// What they may be.
        allowed: usize,
    },
    /// Another version wrote it.
    #[error("it is of format {0}, and this version knows format {VERSION} only")]
    OtherVersion(u32),
    /// It is not what was written.
    #[error("it is damaged")]
    Damaged,
    /// It was written at a time that is still to come.
    #[error("it is of {0} ms from now: the clock was set back")]
    Future(u64),
    /// Nobody who left then may come back.
    #[error("it is {age_ms} ms old, and [recovery] max_age is over")]
    TooOld {
        /// How old it is.
        age_ms: u64,
    },
}

/// Writes the file, in one go for whoever reads it.
pub(super) fn give(path: &Path, body: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension("handover-partial");
    let given = write(&partial, body).and_then(|()| fs::rename(&partial, path));
    if given.is_err() {
        // A disk that is full is not to hold what nobody takes.
        let _ = remove(&partial);
    }
    given
}

fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = private_file::create(path)?;
    file.write_all(MARK)?;
    file.write_all(&VERSION.to_be_bytes())?;
    file.write_all(&Sha256::digest(body))?;
    file.write_all(body)
}

/// Takes what is in the file, if it is there: then it is not, whatever was in it.
pub(super) fn take(path: &Path, max_bytes: usize) -> Result<Option<Vec<u8>>, Refusal> {
    // Neither through a link, nor waiting for who writes to a pipe.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    if let Err(error) = &opened
        && error.kind() == io::ErrorKind::NotFound
    {
        return Ok(None);
    }
    // Whoever takes it a second time would send again what was sent since.
    remove(path)?;
    read(opened?, max_bytes).map(Some)
}

fn read(file: File, max_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let about = file.metadata()?;
    let is_own = about.is_file() && about.uid() == geteuid().as_raw() && about.mode() & OTHERS == 0;
    if !is_own {
        return Err(Refusal::NotOwn);
    }
    let allowed = HEAD_BYTES + max_bytes;
    if about.len() > allowed as u64 {
        let found = about.len();
        return Err(Refusal::TooLarge {
            found,
            allowed: max_bytes,
        });
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // One byte more tells a file that grows meanwhile.
    file.take(allowed as u64 + 1).read_to_end(&mut bytes)?;
    let Some((mark, rest)) = bytes.split_first_chunk() else {
        return Err(Refusal::Damaged);
    };
    let Some((version, rest)) = rest.split_first_chunk() else {
        return Err(Refusal::Damaged);
    };
    if mark != MARK || bytes.len() > allowed {
        return Err(Refusal::Damaged);
    }
    match u32::from_be_bytes(*version) {
        VERSION => {}
        other => return Err(Refusal::OtherVersion(other)),
    }
    match rest.split_first_chunk::<CHECKSUM_BYTES>() {
        Some((checksum, body)) if *checksum == *Sha256::digest(body) => {}
        _ => return Err(Refusal::Damaged),
    }
    bytes.drain(..HEAD_BYTES);
    Ok(bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
