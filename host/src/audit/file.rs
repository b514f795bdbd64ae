//! The file that it is written to.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{self, Path, PathBuf},
};

use rustix::fs::Access;

use crate::rarely::Rarely;

/// Opened anew for each write, as there are few: so it may be moved away, or removed with its folder, while the server
/// runs.
pub(super) struct File {
    path: PathBuf,
    complaints: Rarely,
}

impl File {
    /// Makes it and its folder, if they are not there. Nobody else can read it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        end_line(&mut append_to(path)?)?;
        Ok(Self {
            path: path.to_owned(),
            complaints: Rarely::default(),
        })
    }
}

/// Whether it could be opened, without making anything.
pub(super) fn rehearse(path: &Path) -> io::Result<()> {
    match OpenOptions::new().read(true).append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What is missing of its folders would be made in the last one that is there.
            let path = path::absolute(path)?;
            let mut above = path.ancestors().skip(1);
            let folder = above.find(|folder| folder.exists()).unwrap_or(&path);
            let rights = Access::WRITE_OK | Access::EXEC_OK;
            Ok(rustix::fs::access(folder, rights)?)
        }
        opened => opened.map(drop),
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = append_to(&self.path).and_then(|mut file| file.write(bytes));
        written.inspect_err(|error| {
            let path = self.path.display();
            self.complaints
                .say(|| tracing::error!(%path, %error, "the audit log cannot be written"));
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes it and its folder, if they are not there.
fn append_to(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).append(true).create(true).mode(0o600);
    match (options.open(path), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            options.open(path)
        }
        (opened, _) => opened,
    }
}

/// A process may have ended within a line.
fn end_line(file: &mut fs::File) -> io::Result<()> {
    let is_file = file.metadata()?.is_file();
    if !is_file || file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    match last {
        [b'\n'] => Ok(()),
        _ => file.write_all(b"\n"),
    }
}
