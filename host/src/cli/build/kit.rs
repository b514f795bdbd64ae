//! What builds need of MixLab: files that this host has inside, written where a build finds them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Its folder, beside the components that are built.
pub(in crate::cli) const FOLDER: &str = "build";

/// The files, below that folder.
const FILES: [(&str, &str); 5] = [
    ("wit/mixlab.wit", include_str!("../../../../wit/mixlab.wit")),
    ("c/mixlab.h", include_str!("../../../../plugins/c/mixlab.h")),
    ("c/mixlab.c", include_str!("../../../../plugins/c/mixlab.c")),
    (
        "c/bindings.h",
        include_str!("../../../../plugins/c/bindings.h"),
    ),
    (
        "c/bindings.c",
        include_str!("../../../../plugins/c/bindings.c"),
    ),
];

/// A kit that is there.
pub(super) struct Kit {
    /// Absolute: builds run elsewhere.
    folder: PathBuf,
}

impl Kit {
    /// Writes it beside this component. Files that are as they have to be stay untouched.
    pub(super) fn beside(component: &Path) -> io::Result<Self> {
        let folder = component.parent().unwrap_or(Path::new("")).join(FOLDER);
        let kit = Self {
            folder: std::path::absolute(folder)?,
        };
        for (name, text) in FILES {
            let path = kit.folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&kit.folder))?;
            super::put(text.as_bytes(), &path)?;
        }
        Ok(kit)
    }

    /// The folder of the contract's WIT package.
    pub(super) fn wit(&self) -> PathBuf {
        self.folder.join("wit")
    }

    /// The folder of what plugins in C are built with.
    pub(super) fn c(&self) -> PathBuf {
        self.folder.join("c")
    }

    /// Where the build of this plugin writes. Nothing is there.
    pub(super) fn output(&self, plugin: &str) -> io::Result<PathBuf> {
        let output = self.folder.join(format!("{plugin}.wasm"));
        match fs::remove_file(&output) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(output),
        }
    }
}
