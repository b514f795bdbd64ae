//! What a plugin's file holds.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    content::{Content, ContentHash},
    script::{Files, Found, is_script},
};
use crate::units::Size;

/// A component, or a script that a component of the host's runs.
#[derive(Debug, Clone)]
pub(crate) enum Code {
    /// A component.
    Component(Content),
    /// A script, and what it imports.
    Script(Arc<Files>),
}

/// What reading a plugin's file brought.
pub(crate) struct Reading {
    /// What it holds; or why it is nothing that could be loaded.
    pub code: Result<Code, String>,
    /// Other files that belong to it, whether they are there or not.
    pub imports: Vec<PathBuf>,
    /// Whether the file has no bytes.
    pub is_empty: bool,
}

impl Code {
    /// Reads a plugin's file, of which `limit` bytes may be loaded, and what a script imports. It blocks.
    pub(crate) fn read(path: &Path, limit: Size) -> io::Result<Reading> {
        if is_script(path) {
            let Found { files, imports } = Files::read(path, limit)?;
            return Ok(Reading {
                is_empty: files.as_ref().is_ok_and(Files::is_empty),
                code: files.map(|files| Self::Script(Arc::new(files))),
                imports,
            });
        }
        let file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size.min(limit.bytes()) as usize)?;
        // One byte more tells a file that grows meanwhile.
        file.take(limit.bytes().saturating_add(1))
            .read_to_end(&mut bytes)?;
        let is_empty = bytes.is_empty();
        let code = match bytes.len() as u64 > limit.bytes() {
            true => Err(too_large(size.max(bytes.len() as u64), limit)),
            false => Ok(Self::Component(Content::new(bytes))),
        };
        Ok(Reading {
            code,
            imports: Vec::new(),
            is_empty,
        })
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Component(content) => content.bytes().len(),
            Self::Script(files) => files.bytes(),
        }
    }

    /// What it is known by.
    pub(crate) fn hash(&self) -> ContentHash {
        match self {
            Self::Component(content) => content.hash(),
            Self::Script(files) => files.hash(),
        }
    }
}

/// What is said of a file with more bytes than may be loaded.
pub(crate) fn too_large(size: u64, limit: Size) -> String {
    format!("it has {size} bytes; the budget file = {limit} allows no more")
}
