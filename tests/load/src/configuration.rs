//! A configuration of MixLab that a measurement writes for itself.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use tempfile::TempDir;

use crate::options::ServerOptions;

/// What of `custom-event` says what this tool sends it.
pub const ITS_EVENTS: &str = r#"
[plugins.config.arguments]
type = "array"
minItems = 1
maxItems = 1
[plugins.config.arguments.items]
type = "object"
required = ["socket", "n", "text"]
additionalProperties = false
properties.socket = { type = "integer", minimum = 0 }
properties.n = { type = "integer", minimum = 0 }
properties.text = { type = "string", maxLength = 100000 }
"#;

/// The text, and a folder of its own.
pub struct Configuration {
    folder: TempDir,
    text: String,
}

impl Configuration {
    /// Quiet, with room for bursts, and without limits or plugins.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: TempDir::new()?,
            text: "[log]\nlevel = \"warn\"\n[socket]\nsend_buffer = 65536\nqueue = 65536\n"
                .to_owned(),
        })
    }

    /// Adds sections.
    pub fn add(&mut self, toml: &str) {
        self.text += toml;
        self.text += "\n";
    }

    /// Compiled code is kept in this folder, where there is none at first.
    pub fn with_own_cache(&mut self) {
        let cache = self.path("cache");
        self.add(&format!("[runtime]\ncache = {cache:?}"));
    }

    /// Adds a plugin: its name, its file, its grants and more of its keys.
    pub fn plugin(&mut self, name: &str, file: &Path, grants: &[&str], more: &str) {
        writeln!(
            self.text,
            "[[plugins]]\nname = {name:?}\npath = {file:?}\ngrants = {grants:?}\n{more}"
        )
        .expect("a String takes everything");
    }

    /// A file or folder beside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Options to start a server with it. It has to outlive that server.
    pub fn options(&self, options: &ServerOptions) -> Result<ServerOptions> {
        Ok(ServerOptions {
            config: Some(self.write()?),
            ..options.clone()
        })
    }

    /// Writes its file.
    pub fn write(&self) -> Result<PathBuf> {
        let file = self.path("mixlab.toml");
        fs::write(&file, &self.text)?;
        Ok(file)
    }
}
