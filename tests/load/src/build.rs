//! Builds what a study runs: optimised servers, plugins and guests, and what Node's servers import.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{options::Peer, peer};

/// Builds everything; what is up to date takes a moment.
pub fn everything(peers: &[Peer]) -> Result<()> {
    let mut servers = cargo(&["build", "--release", "-p", "mixlab"]);
    if peers.contains(&Peer::Native) {
        servers.args(["-p", "mixlab-load-native"]);
    }
    run(servers)?;
    plugins("mixlab.toml")?;
    let guests = ["-p", "mixlab-guests", "--examples"];
    let target = ["--target", "wasm32-wasip2"];
    run(cargo(
        &[&["build", "--release"][..], &target, &guests].concat(),
    ))?;
    if peers.contains(&Peer::Node) {
        let folder = peer::load_folder().join("peers/node");
        if !is_installed(&folder) {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--silent", "--no-fund", "--no-audit", "--prefix"]);
            npm.arg(&folder);
            run(npm)?;
        }
    }
    Ok(())
}

/// Builds the plugins of a configuration of this repository.
pub fn plugins(config: &str) -> Result<()> {
    let mut build = Command::new(peer::root().join("target/release/mixlab"));
    build.args(["build", "--config", config]);
    run(in_repository(build))
}

/// Whether the Node servers have what they import.
pub fn is_installed(node: &Path) -> bool {
    node.join("node_modules/@socket.io/redis-adapter").is_dir()
}

fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(args);
    in_repository(cargo)
}

/// Programs are looked for in the repository's own target folder.
fn in_repository(mut command: Command) -> Command {
    command
        .current_dir(peer::root())
        .env_remove("CARGO_TARGET_DIR");
    command
}

fn run(mut command: Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| line.clone())?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}
