//! Crates: made by cargo.

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde::Deserialize;

use super::{BuildError, Words};

/// What crates are compiled for.
pub(in crate::cli) const TARGET: &str = "wasm32-wasip2";

/// How crates are compiled, beside what they say themselves.
///
/// - Arithmetic that overflows fails the call, as any panic does. Optimised code would go on with the wrong number.
/// - The author's code keeps its lines, so that a trap without a message says where it was. Crates from elsewhere keep
///   none: their frames still have names, and they are compiled once for all plugins, whatever is said here.
const PROFILE: [&str; 3] = [
    "profile.release.overflow-checks=true",
    "profile.release.debug=\"line-tables-only\"",
    "profile.release.package.\"*\".debug=false",
];

/// Adds the target where rustup manages the toolchain; elsewhere cargo says what is missing.
pub(super) fn add_target(source: &Path) -> Result<(), BuildError> {
    let rustup = |arguments: &[&str]| {
        Command::new("rustup")
            .args(arguments)
            .current_dir(source)
            .stdin(Stdio::null())
            .output()
    };
    let Ok(installed) = rustup(&["target", "list", "--installed"]) else {
        return Ok(());
    };
    if String::from_utf8_lossy(&installed.stdout)
        .lines()
        .any(|line| line.trim() == TARGET)
    {
        return Ok(());
    }
    let added = rustup(&["target", "add", TARGET])
        .map_err(|error| BuildError::Other(format!("rustup cannot be run: {error}")))?;
    if !added.status.success() {
        let reason = String::from_utf8_lossy(&added.stderr).trim().to_owned();
        return Err(BuildError::Other(format!(
            "rustup target add {TARGET} failed: {reason}"
        )));
    }
    Ok(())
}

/// Compiles a crate; the path of the component that came out of it.
pub(super) fn compile(
    name: &str,
    source: &Path,
    words: Option<&Words>,
) -> Result<PathBuf, BuildError> {
    #[derive(Deserialize)]
    struct Artifact {
        reason: String,
        #[serde(default)]
        manifest_path: PathBuf,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let manifest = source.join("Cargo.toml");
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--target", TARGET])
        .args(PROFILE.iter().flat_map(|key| ["--config", key]))
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(&manifest)
        .stdin(Stdio::null());
    let output = match words {
        Some(words) => heard(command, words),
        None => command.stderr(Stdio::inherit()).output(),
    };
    let output =
        output.map_err(|error| BuildError::Other(format!("cargo cannot be run: {error}")))?;
    if !output.status.success() {
        let reason = format!("plugin {name:?} does not compile");
        return Err(BuildError::Source(reason));
    }
    let manifest = fs::canonicalize(&manifest)
        .map_err(|error| BuildError::Other(format!("{}: {error}", manifest.display())))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .filter(|artifact| {
            artifact.reason == "compiler-artifact" && artifact.manifest_path == manifest
        })
        .flat_map(|artifact| artifact.filenames)
        .find(|file| {
            file.extension()
                .is_some_and(|extension| extension == "wasm")
        })
        .ok_or_else(|| {
            let manifest = manifest.display();
            let reason =
                format!("{manifest} makes no component: it needs crate-type = [\"cdylib\"]");
            BuildError::Source(reason)
        })
}

/// Runs cargo and keeps its words. It does not see by itself whether they go to a terminal in the end.
fn heard(mut command: Command, words: &Words) -> io::Result<Output> {
    let hearing = words.hear()?;
    if io::stderr().is_terminal() && env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let output = command.stderr(hearing.stdio()?).output();
    drop(command);
    hearing.end();
    output
}
