//! What builds need of MixLab: files that this host has inside, written where a build finds them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::config::Plugin;

/// Its folder, beside the components that are built.
pub(in crate::cli) const FOLDER: &str = "build";

/// The files, below that folder.
const FILES: [(&str, &str); 11] = [
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
    (
        "python/mixlab/__init__.py",
        include_str!("../../../../plugins/python/mixlab/__init__.py"),
    ),
    (
        "python/mixlab/schema.py",
        include_str!("../../../../plugins/python/mixlab/schema.py"),
    ),
    (
        "python/mixlab/context.py",
        include_str!("../../../../plugins/python/mixlab/context.py"),
    ),
    (
        "python/mixlab/plugin.py",
        include_str!("../../../../plugins/python/mixlab/plugin.py"),
    ),
    (
        "python/mixlab/component.py",
        include_str!("../../../../plugins/python/mixlab/component.py"),
    ),
    (
        "python/mixlab/testing.py",
        include_str!("../../../../plugins/python/mixlab/testing.py"),
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

    /// What makes a component of a plugin in Python: of the module that is called as the plugin is.
    pub(super) fn componentize_py(&self, plugin: &Plugin, source: &Path) -> io::Result<Command> {
        let module = plugin.name.replace('-', "_");
        if !source.join(format!("{module}.py")).is_file() {
            let reason = format!("there is no {module}.py, the module of the plugin");
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        // What is exported is looked for in one module.
        let entry = self.folder.join("python/entry").join(&plugin.name);
        fs::create_dir_all(&entry)?;
        let text = format!(
            "import {module}  # noqa: F401\nfrom mixlab.component import *  # noqa: F403\n"
        );
        super::put(text.as_bytes(), &entry.join("mixlab_entry.py"))?;
        let mut command = Command::new("componentize-py");
        command
            .arg("-d")
            .arg(self.wit())
            .args(["-w", "any-plugin", "componentize"]);
        for folder in [
            std::path::absolute(source)?,
            self.folder.join("python"),
            entry,
        ] {
            command.arg("-p").arg(folder);
        }
        command
            .arg("mixlab_entry")
            .arg("-o")
            .arg(self.path_of_output(&plugin.name));
        Ok(command)
    }

    fn path_of_output(&self, plugin: &str) -> PathBuf {
        self.folder.join(format!("{plugin}.wasm"))
    }

    /// Where the build of this plugin writes. Nothing is there.
    pub(super) fn output(&self, plugin: &str) -> io::Result<PathBuf> {
        let output = self.path_of_output(plugin);
        match fs::remove_file(&output) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(output),
        }
    }
}
