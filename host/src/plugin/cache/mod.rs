//! Compiled components on disk, so that a start does not compile again.
//!
//! Compiled code is native code, and is run. It is believed for two reasons, and both are needed: nobody
//! else can write to the folder (`trust`), and each entry carries a code that only a host with the
//! folder's key can make (`key`). What does not match is thrown away, and compiled again.

mod key;
mod trust;

use std::{
    fs::{self, File, FileTimes},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use self::key::{Key, TAG_BYTES};
pub(crate) use self::trust::{Distrust, check_file};
use super::content::ContentHash;
use crate::private_file;

/// Where in the configured folder compiled components are. Whatever is in it and is no entry is
/// removed, so it is one where nobody else puts anything.
const FOLDER: &str = "components";

/// The key's name in it.
const KEY: &str = "key";

/// What entries end with.
const EXTENSION: &str = ".code";

/// What entries end with that are being written.
const UNFINISHED: &str = ".new";

/// How old a file is that another process can no longer be writing.
const ABANDONED: Duration = Duration::from_secs(600);

/// How many entries are kept. They are some megabytes each.
const MAX_ENTRIES: usize = 1000;

/// How many bytes they may have together.
const MAX_BYTES: u64 = 1 << 30;

/// A folder of compiled components.
pub(super) struct Cache {
    folder: PathBuf,
    key: Key,
    /// Stands for the compiler, its settings and the machine: code for others does not run here.
    compiler: [u8; 32],
}

/// A component that was compiled before.
pub(super) struct Cached {
    /// The component.
    pub component: Component,
    /// How long the compiler took.
    pub took: Duration,
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    /// Code from the folder must not be run.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The folder cannot be used.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The folder or a file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cache {
    /// Opens or makes the folder for compiled components in `folder`.
    pub(super) fn open(folder: &Path, engine: &Engine) -> Result<Self, CacheError> {
        let unusable = |path: &Path, source| CacheError::Unusable {
            path: path.to_owned(),
            source,
        };
        let folder = std::path::absolute(folder).map_err(|error| unusable(folder, error))?;
        let folder = folder.join(FOLDER);
        // Before anything is made in it: a folder of others may lead anywhere.
        let existing = folder.ancestors().find(|path| path.exists());
        trust::check_above(existing.unwrap_or(Path::new("/")))?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| unusable(&folder, error))?;
        trust::check(&folder)?;
        let key = folder.join(KEY);
        Ok(Self {
            key: Key::read_or_make(&key).map_err(|error| unusable(&key, error))?,
            compiler: fingerprint(engine),
            folder,
        })
    }

    /// What was compiled from this content, if it is there and a host with the key put it there.
    pub(super) fn load(&self, engine: &Engine, content: ContentHash) -> Option<Cached> {
        let path = self.path(content);
        let entry = read(&path).ok()?;
        let cached = self.open_entry(engine, content, &entry);
        match &cached {
            Some(_) => touch(&path),
            None => {
                let file = path.display();
                tracing::warn!(%file, "a compiled plugin is not what this server wrote: it is thrown away");
                // It is not run, whether it can be removed or not.
                let _ = fs::remove_file(&path);
            }
        }
        cached
    }

    /// Keeps what was compiled. The oldest entries make room for it.
    pub(super) fn store(&self, content: ContentHash, component: &Component, took: Duration) {
        if let Err(error) = self.write(content, component, took) {
            tracing::warn!(folder = %self.folder.display(), %error, "a compiled plugin is not kept");
        }
        if let Err(error) = self.clean_up() {
            tracing::warn!(folder = %self.folder.display(), %error, "the folder is not cleaned up");
        }
    }

    fn open_entry(&self, engine: &Engine, content: ContentHash, entry: &[u8]) -> Option<Cached> {
        let (tag, signed) = entry.split_first_chunk::<TAG_BYTES>()?;
        if !self.key.matches(tag, &[&self.name(content), signed]) {
            return None;
        }
        let (took, code) = signed.split_first_chunk()?;
        Some(Cached {
            component: deserialize(engine, code)?,
            took: Duration::from_millis(u64::from_le_bytes(*took)),
        })
    }

    fn write(
        &self,
        content: ContentHash,
        component: &Component,
        took: Duration,
    ) -> wasmtime::Result<()> {
        let path = self.path(content);
        let took = (took.as_millis() as u64).to_le_bytes();
        let code = component.serialize()?;
        let tag = self.key.tag(&[&self.name(content), &took, &code]);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(format!(".{}{UNFINISHED}", process::id()));
        let unfinished = PathBuf::from(unfinished);
        let written = private_file::create(&unfinished)
            .and_then(|mut file| {
                file.write_all(&tag)?;
                file.write_all(&took)?;
                file.write_all(&code)
            })
            .and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        Ok(written?)
    }

    /// Removes what is no entry, and the entries that were not used for longest, until the rest is
    /// within its bounds.
    fn clean_up(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            // Another process may have removed it meanwhile.
            let Ok(metadata) = file.metadata() else {
                continue;
            };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is_abandoned = || used.elapsed().is_ok_and(|age| age > ABANDONED);
            if metadata.is_file() && name.ends_with(EXTENSION) {
                entries.push((used, metadata.len(), file.path()));
            } else if metadata.is_dir() {
                let _ = fs::remove_dir_all(file.path());
            } else if name != KEY && (!name.ends_with(UNFINISHED) || is_abandoned()) {
                let _ = fs::remove_file(file.path());
            }
        }
        entries.sort_unstable_by(|one, other| other.cmp(one));
        let mut bytes = 0;
        for (index, (_, len, path)) in entries.iter().enumerate() {
            bytes += len;
            if index >= MAX_ENTRIES || bytes > MAX_BYTES {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn path(&self, content: ContentHash) -> PathBuf {
        let mut name: String = self
            .name(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        name.push_str(EXTENSION);
        self.folder.join(name)
    }

    /// Of the entry for a content: it says for which compiler, too.
    fn name(&self, content: ContentHash) -> [u8; 32] {
        let hash = Sha256::new().chain_update(self.compiler);
        hash.chain_update(content.as_bytes()).finalize().into()
    }
}

/// Code that the host wrote itself, ready to run; none if this host cannot run it.
#[allow(
    unsafe_code,
    reason = "wasmtime has no safe way to load what it compiled before"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: the bytes are what `Component::serialize` returned: the caller has checked the code that
    // the folder's key makes of them, and they were read into memory before that, where nobody else
    // changes them.
    let component = unsafe { Component::deserialize(engine, code) };
    component.ok()
}

/// The hash of all that the compiler's work depends on beside the component.
fn fingerprint(engine: &Engine) -> [u8; 32] {
    struct Sha256Hasher(Sha256);

    impl Hasher for Sha256Hasher {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            unreachable!("the whole hash is taken below")
        }
    }

    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

/// The content of a file that is neither a link nor a pipe.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<File> {
    let file = fs::OpenOptions::new()
        .read(true)
        // A pipe would wait for somebody to write.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    Ok(file)
}

/// Notes that an entry is in use, for [`Cache::clean_up`].
fn touch(path: &Path) {
    let touched = open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(SystemTime::now())));
    if let Err(error) = touched {
        tracing::debug!(file = %path.display(), %error, "an entry in use looks older than it is");
    }
}

#[cfg(test)]
mod tests;
