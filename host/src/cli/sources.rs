//! What a plugin's component is built from: its folder, and what a crate depends on by a path.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    build::{self, Recipe, cargo::TARGET},
    products::{FileState, Files, LOCK_FILE},
};
use crate::config::Plugin;

/// The files and folders of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// Its folder; of a crate also those of the crates that it depends on by their paths.
    pub folders: Vec<PathBuf>,
    /// The workspace's manifest and lock file: they say which versions and how to compile.
    pub workspace: Vec<PathBuf>,
    /// Where a build puts what it makes. None of it is a source.
    output: Vec<PathBuf>,
    /// Whether what is hidden, and what tools keep beside it, are no sources.
    only_visible: bool,
}

/// Folders that tools keep beside sources.
const KEPT_BY_TOOLS: [&str; 3] = ["__pycache__", "node_modules", "target"];

/// What `cargo metadata` says, as far as it is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    /// Where it comes from; none if that is a path.
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

impl Sources {
    /// Those in this folder, which is absolute. Of a crate itself alone where cargo cannot say.
    pub(super) fn of(plugin: &Plugin, source: &Path) -> Self {
        match Recipe::of(plugin, source) {
            Ok(Recipe::Program { .. } | Recipe::Shell(_) | Recipe::Python) => {
                Self::of_program(plugin, source)
            }
            Ok(Recipe::Cargo) | Err(_) => Self::of_crate(source),
        }
    }

    fn of_program(plugin: &Plugin, source: &Path) -> Self {
        let component = std::path::absolute(&plugin.path).unwrap_or_else(|_| plugin.path.clone());
        let kit = component.with_file_name(build::FOLDER);
        Self {
            folders: vec![source.to_owned()],
            workspace: Vec::new(),
            output: vec![build::unfinished(&component), component, kit],
            only_visible: true,
        }
    }

    fn of_crate(source: &Path) -> Self {
        // A crate with its own workspace is built into a folder of its own.
        let alone = || Self {
            folders: vec![source.to_owned()],
            workspace: Vec::new(),
            output: vec![source.join("target")],
            only_visible: false,
        };
        let Some(metadata) = metadata(source) else {
            return alone();
        };
        let mut sources = alone();
        sources.folders.extend(metadata.path_crates(source));
        sources.folders.sort_unstable();
        // What is in another crate's folder is watched with it.
        sources
            .folders
            .dedup_by(|inner, outer| inner.starts_with(&*outer));
        sources.workspace = ["Cargo.toml", LOCK_FILE]
            .map(|name| metadata.workspace_root.join(name))
            .into();
        sources.output.push(metadata.target_directory);
        sources
    }

    /// Whether this file is one of them.
    pub(super) fn contain(&self, path: &Path) -> bool {
        if self.workspace.iter().any(|file| file == path) {
            return true;
        }
        let folder = self.folders.iter().find(|folder| path.starts_with(folder));
        let is_output = || self.output.iter().any(|folder| path.starts_with(folder));
        folder.is_some_and(|folder| !is_output() && !self.is_hidden(folder, path))
    }

    /// Whether it is nothing that a build reads, by its name or that of a folder that it is in.
    fn is_hidden(&self, folder: &Path, path: &Path) -> bool {
        let is_hidden = |name: &OsStr| {
            name.as_encoded_bytes().starts_with(b".")
                || KEPT_BY_TOOLS.iter().any(|kept| name == *kept)
        };
        let below = path.strip_prefix(folder).unwrap_or(path);
        self.only_visible && below.iter().any(is_hidden)
    }

    /// All of them as they are now. What is as it was in `known` is not read again.
    pub(super) fn files(&self, known: &Files) -> Files {
        let mut files = self.workspace.clone();
        let mut folders = self.folders.clone();
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                if !self.contain(&path) {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        let state = |path: PathBuf| Some((state(&path, known.get(&path))?, path));
        let states = files.into_iter().filter_map(state);
        states.map(|(state, path)| (path, state)).collect()
    }
}

/// The state of this file, if it is there; `known` is one that it had.
fn state(path: &Path, known: Option<&FileState>) -> Option<FileState> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let (written, length) = (metadata.modified().ok()?, metadata.len());
    if let Some(known) = known
        && (known.written, known.length) == (written, length)
    {
        return Some(*known);
    }
    let mut content = Sha256::new();
    if metadata.is_symlink() {
        content.update(fs::read_link(path).ok()?.as_os_str().as_encoded_bytes());
    } else if metadata.is_file() {
        // What cannot be read is a build's to complain of.
        let _ = File::open(path).and_then(|mut file| io::copy(&mut file, &mut content));
    }
    Some(FileState {
        written,
        length,
        content: content.finalize().into(),
    })
}

impl Metadata {
    /// The folders of the crates that come from a path, among those that the crate in `source` is
    /// built from.
    fn path_crates(&self, source: &Path) -> Vec<PathBuf> {
        let packages: HashMap<&str, &Package> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package))
            .collect();
        let nodes: HashMap<&str, &Node> = self
            .resolve
            .nodes
            .iter()
            .map(|node| (node.id.as_str(), node))
            .collect();
        let manifest = fs::canonicalize(source.join("Cargo.toml")).ok();
        let is_root = |package: &&Package| {
            package.source.is_none() && fs::canonicalize(&package.manifest_path).ok() == manifest
        };
        let root = self.packages.iter().find(is_root);
        let mut to_visit: Vec<&str> = root.map(|root| root.id.as_str()).into_iter().collect();
        let mut visited = HashSet::new();
        let mut folders = Vec::new();
        while let Some(id) = to_visit.pop() {
            if !visited.insert(id) {
                continue;
            }
            let package = packages.get(id).filter(|package| package.source.is_none());
            let folder = package.and_then(|package| package.manifest_path.parent());
            folders.extend(folder.map(Path::to_owned));
            let node = nodes.get(id);
            to_visit.extend(
                node.iter()
                    .flat_map(|node| &node.dependencies)
                    .map(String::as_str),
            );
        }
        folders
    }
}

fn metadata(source: &Path) -> Option<Metadata> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1"])
        .args(["--filter-platform", TARGET, "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .stdin(Stdio::null())
        // What is wrong with the crate is said when it is built.
        .stderr(Stdio::null())
        .output()
        .ok()?;
    serde_json::from_slice(&output.stdout).ok()
}
