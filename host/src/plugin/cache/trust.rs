//! Whether anybody else could put something into a folder.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Links beyond so many lead in a circle.
const MAX_LINKS: usize = 40;

/// The mode bits of those who may write: the group's and everybody's.
const OTHERS_WRITE: u32 = 0o022;

/// The mode bit of a folder, such as `/tmp`, where everybody may write and nobody may move what is
/// another's.
const STICKY: u32 = 0o1000;

/// Why a folder is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Distrust {
    /// Its owner may do as they like.
    #[error("{} belongs to user {owner}, who could put code there that this server would run", path.display())]
    Owner {
        /// The folder, one that it is in, or a link on the way.
        path: PathBuf,
        /// The number of the user.
        owner: u32,
    },
    /// Others may write to it.
    #[error(
        "others may write to {} (mode {mode:03o}), and could put code there that this server would \
         run: chmod go-w it, or set [runtime] cache to another folder", path.display()
    )]
    Writable {
        /// The folder, or one that it is in.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Something on the way is no folder.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The links on the way lead in a circle.
    #[error("{}: too many links", .0.display())]
    Links(PathBuf),
    /// Nobody can tell.
    #[error("{}: {source}", path.display())]
    Unknown {
        /// The folder, or one that it is in.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether nobody but this user and root can write to this folder, or put another in its place. The
/// path is absolute.
pub(super) fn check(folder: &Path) -> Result<(), Distrust> {
    check_above(folder)?;
    let metadata = fs::metadata(folder).map_err(|source| Distrust::Unknown {
        path: folder.to_owned(),
        source,
    })?;
    // The sticky bit does not keep others from putting files there.
    match metadata.mode() & 0o777 {
        mode if mode & OTHERS_WRITE == 0 => Ok(()),
        mode => Err(Distrust::Writable {
            path: folder.to_owned(),
            mode,
        }),
    }
}

/// Whether nobody but this user and root can change this file and the folder that it is in. Wherever that is: who puts
/// another folder in its place owns that one.
pub(crate) fn check_file(file: &Path) -> Result<(), Distrust> {
    for path in file.parent().into_iter().chain([file]) {
        let unknown = |source| Distrust::Unknown {
            path: path.to_owned(),
            source,
        };
        let link = fs::symlink_metadata(path).map_err(unknown)?;
        check_owner(path, &link)?;
        let metadata = fs::metadata(path).map_err(unknown)?;
        check_owner(path, &metadata)?;
        let mode = metadata.mode() & 0o777;
        if mode & OTHERS_WRITE != 0 {
            let path = path.to_owned();
            return Err(Distrust::Writable { path, mode });
        }
    }
    Ok(())
}

/// Whether nobody else can put another folder in the place of this one.
pub(super) fn check_above(folder: &Path) -> Result<(), Distrust> {
    walk(folder, &mut 0)
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), Distrust> {
    let owner = metadata.uid();
    match owner == 0 || owner == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(Distrust::Owner {
            path: path.to_owned(),
            owner,
        }),
    }
}

/// From the root down to the folder, and so along each link.
fn walk(folder: &Path, links: &mut usize) -> Result<(), Distrust> {
    let mut steps: Vec<&Path> = folder.ancestors().collect();
    steps.reverse();
    for path in steps {
        let unknown = |source| Distrust::Unknown {
            path: path.to_owned(),
            source,
        };
        let metadata = fs::symlink_metadata(path).map_err(unknown)?;
        let mode = metadata.mode();
        check_owner(path, &metadata)?;
        if metadata.is_symlink() {
            *links += 1;
            if *links > MAX_LINKS {
                return Err(Distrust::Links(path.to_owned()));
            }
            let target = fs::read_link(path).map_err(unknown)?;
            let from = path.parent().unwrap_or(Path::new("/"));
            walk(&from.join(target), links)?;
        } else if !metadata.is_dir() {
            return Err(Distrust::NotAFolder(path.to_owned()));
        } else if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(Distrust::Writable {
                path: path.to_owned(),
                mode: mode & 0o777,
            });
        }
    }
    Ok(())
}
