//! What of a folder is for the public.

use std::{
    ffi::OsStr,
    fs::Metadata,
    future::Future,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use tokio::task::spawn_blocking;
use tower_http::services::fs::{Backend, TokioBackend, TokioFile};

/// The files of a folder, but for what is private: dot files other than `.well-known`, installed packages, and whatever
/// links lead to outside of it. The file that would be read is looked at and not the path that asks
/// for it, so it does not matter how that is written.
#[derive(Clone)]
pub(super) struct PublicFolder {
    root: Arc<Path>,
}

type Answer<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl PublicFolder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Where a path leads, if that is public.
    async fn resolve(self, path: PathBuf) -> io::Result<PathBuf> {
        let resolved = spawn_blocking(move || resolve(&self.root, &path)).await;
        resolved.map_err(io::Error::other)?
    }
}

impl Backend for PublicFolder {
    type File = TokioFile;
    type Metadata = Metadata;
    type OpenFuture = Answer<TokioFile>;
    type MetadataFuture = Answer<Metadata>;

    fn open(&self, path: PathBuf) -> Answer<TokioFile> {
        let resolved = self.clone().resolve(path);
        Box::pin(async move { TokioBackend.open(resolved.await?).await })
    }

    fn metadata(&self, path: PathBuf) -> Answer<Metadata> {
        let resolved = self.clone().resolve(path);
        Box::pin(async move { TokioBackend.metadata(resolved.await?).await })
    }
}

/// Follows all links. What is not public is not there.
fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let root = root.canonicalize()?;
    // A name that is too long and a link in a circle lead nowhere either.
    let path = path.canonicalize().map_err(|_| ErrorKind::NotFound)?;
    let within = path.strip_prefix(&root).map_err(|_| ErrorKind::NotFound)?;
    // What a site says of itself to machines, e.g. to those who sign certificates (RFC 8615), is public.
    let within = within.strip_prefix(".well-known").unwrap_or(within);
    if within.iter().any(is_private) {
        return Err(ErrorKind::NotFound.into());
    }
    // Whoever opens a pipe waits for who writes to it.
    let kind = path.metadata()?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(ErrorKind::NotFound.into());
    }
    Ok(path)
}

fn is_private(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name.eq_ignore_ascii_case("node_modules")
}
