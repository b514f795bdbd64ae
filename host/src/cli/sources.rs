//! What a plugin's component is built from: its crate, and what that depends on by a path.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use serde::Deserialize;

use super::build::TARGET;

/// What cargo writes beside the manifest of a workspace.
const LOCK_FILE: &str = "Cargo.lock";

/// The files and folders of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// The crate's folder, and those of the crates that it depends on by their paths.
    pub crates: Vec<PathBuf>,
    /// The workspace's manifest and lock file: they say which versions and how to compile.
    pub workspace: Vec<PathBuf>,
    /// Where cargo puts what it makes. None of it is a source.
    output: Vec<PathBuf>,
}

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
    /// Those of the crate in this folder, which is absolute. The crate alone where cargo cannot say.
    pub(super) fn of(source: &Path) -> Self {
        // A crate with its own workspace is built into a folder of its own.
        let alone = || Self {
            crates: vec![source.to_owned()],
            workspace: Vec::new(),
            output: vec![source.join("target")],
        };
        let Some(metadata) = metadata(source) else {
            return alone();
        };
        let mut sources = alone();
        sources.crates.extend(metadata.path_crates(source));
        sources.crates.sort_unstable();
        // What is in another crate's folder is watched with it.
        sources
            .crates
            .dedup_by(|inner, outer| inner.starts_with(&*outer));
        sources.workspace = ["Cargo.toml", LOCK_FILE]
            .map(|name| metadata.workspace_root.join(name))
            .into();
        sources.output.push(metadata.target_directory);
        sources
    }

    /// Whether this file is one of them.
    pub(super) fn contain(&self, path: &Path) -> bool {
        let is_in = |folders: &[PathBuf]| folders.iter().any(|folder| path.starts_with(folder));
        self.workspace.iter().any(|file| file == path)
            || is_in(&self.crates) && !is_in(&self.output)
    }

    /// Whether one of them was written since then. Cargo's own lock file does not count, which a build
    /// writes; nor do crates' folders themselves, where it puts that.
    pub(super) fn changed_since(&self, time: SystemTime) -> bool {
        let was_written = |path: &Path| {
            let written = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
            written.is_ok_and(|written| written >= time) && !path.ends_with(LOCK_FILE)
        };
        let mut files = self.workspace.clone();
        let mut folders = self.crates.clone();
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                if !self.contain(&path) {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                files.push(path);
            }
        }
        files.iter().any(|path| was_written(path))
    }
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
