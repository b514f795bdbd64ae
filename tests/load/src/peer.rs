//! How each kind of server is started.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    build,
    options::{Peer, ServerOptions},
};

/// The command that starts a server on a free port of 127.0.0.1. `config` is MixLab's.
pub fn command(options: &ServerOptions, config: &Path) -> Result<Command> {
    let program = |name| match &options.server {
        Some(program) => Ok(program.clone()),
        None => built(name),
    };
    let recovers = options.recovery && options.peer != Peer::MixlabPlain;
    let recovery = recovers.to_string();
    Ok(match options.peer {
        Peer::Mixlab | Peer::MixlabPlain | Peer::Before => {
            ensure!(config.is_file(), "there is no {}", config.display());
            let mut command = Command::new(program("mixlab")?);
            command
                .args(["up", "--listen", "127.0.0.1:0", "--config"])
                .arg(config)
                .env("MIXLAB_RECOVERY__ENABLED", recovery);
            command
        }
        Peer::Native => {
            ensure!(!options.recovery, "the native server has no recovery");
            Command::new(program("mixlab-load-native")?)
        }
        Peer::Node | Peer::NodeCluster => {
            let clustered = options.peer == Peer::NodeCluster;
            let folder = load_folder().join("peers/node");
            ensure!(
                build::is_installed(&folder),
                "the Node servers are not installed: npm ci --prefix {}",
                folder.display()
            );
            let mut command = Command::new("node");
            command
                .arg(folder.join(if clustered {
                    "cluster.mjs"
                } else {
                    "server.mjs"
                }))
                .env("RECOVERY", recovery);
            command
        }
    })
}

/// The repository's folder.
pub fn root() -> PathBuf {
    let root = load_folder().join("../..");
    root.canonicalize().unwrap_or(root)
}

/// The folder of this tool.
pub fn load_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of this repository, optimised if it was built so.
fn built(name: &str) -> Result<PathBuf> {
    let target = root().join("target");
    let mut candidates = ["release", "debug"]
        .map(|profile| target.join(profile).join(name))
        .into_iter();
    candidates.find(|path| path.is_file()).with_context(|| {
        format!(
            "no {name} in {}: cargo build --release -p {name}, or --server PATH",
            target.display()
        )
    })
}
