//! The key of a folder of compiled code, and the codes (HMAC-SHA256) that it makes.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    process,
};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::private_file;

/// The length of a code.
pub(super) const TAG_BYTES: usize = 32;

const KEY_BYTES: usize = 32;

/// What only the owner of the folder knows.
pub(super) struct Key([u8; KEY_BYTES]);

impl Key {
    /// The key in this file. One that others may have read or written is replaced, and with it goes
    /// all that it vouched for.
    pub(super) fn read_or_make(path: &Path) -> io::Result<Self> {
        if let Some(key) = read(path)? {
            return Ok(key);
        }
        // One that is no secret.
        let _ = fs::remove_file(path);
        make(path)?;
        read(path)?.ok_or_else(|| io::Error::other("others replace it"))
    }

    /// The code of these bytes, one after the other.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Whether this is their code.
    pub(super) fn matches(&self, tag: &[u8; TAG_BYTES], parts: &[&[u8]]) -> bool {
        self.over(parts).verify_slice(tag).is_ok()
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}

/// None if there is none, or one that is no secret.
fn read(path: &Path) -> io::Result<Option<Key>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A link.
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let is_secret = metadata.mode() & 0o077 == 0;
    if !metadata.is_file() || !is_ours || !is_secret || metadata.len() != KEY_BYTES as u64 {
        return Ok(None);
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(Some(Key(key)))
}

/// Puts a new key there, as a whole and unless another process was faster: all processes have one key.
fn make(path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension(format!("{}.new", process::id()));
    let mut file = private_file::create(&unfinished)?;
    let key: [u8; KEY_BYTES] = rand::random();
    file.write_all(&key)?;
    drop(file);
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
