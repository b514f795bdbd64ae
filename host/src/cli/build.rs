//! `mixlab build`: from the crates that `mixlab.toml` names to components.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use serde::Deserialize;

use super::{Failure, Global, output::say};
use crate::config::{Config, Plugin};

/// What plugins are compiled for.
pub(super) const TARGET: &str = "wasm32-wasip2";

/// Arithmetic that overflows fails the call, as any panic does. Optimised code would go on with the
/// wrong number.
const OVERFLOW_CHECKS: &str = "profile.release.overflow-checks=true";

#[derive(Args)]
pub(super) struct Build {
    /// The plugins to build; all that name a source if none.
    names: Vec<String>,
}

impl Build {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let config = global.load_config()?;
        for name in &self.names {
            if !config
                .plugins
                .iter()
                .any(|plugin| plugin.name == *name && plugin.source.is_some())
            {
                let file = global.config.display();
                return Err(Failure::from(format!(
                    "{file} names no plugin {name:?} with a source"
                )));
            }
        }
        let wanted = |plugin: &&Plugin| self.names.is_empty() || self.names.contains(&plugin.name);
        Ok(build(config.plugins.iter().filter(wanted))?)
    }
}

/// Builds all plugins that are switched on and name a source.
pub(super) fn all(config: &Config) -> Result<(), Failure> {
    let switched_on = config.plugins.iter().filter(|plugin| plugin.enabled);
    Ok(build(switched_on)?)
}

/// Why there is no new component.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// The crate is no good as it is.
    #[error("{0}")]
    Crate(String),
    /// It could not be tried, or not be put in place.
    #[error("{0}")]
    Other(String),
}

/// Builds these plugins, as far as they name a source.
pub(super) fn build<'a>(plugins: impl IntoIterator<Item = &'a Plugin>) -> Result<(), BuildError> {
    let sources: Vec<_> = plugins
        .into_iter()
        .filter_map(|plugin| Some((plugin, plugin.source.as_ref()?)))
        .collect();
    if let Some((_, source)) = sources.first() {
        add_target(source)?;
    }
    for (plugin, source) in sources {
        let component = compile(&plugin.name, source)?;
        put(&component, &plugin.path)
            .map_err(|error| BuildError::Other(format!("{}: {error}", plugin.path.display())))?;
        say(format_args!(
            "built {} -> {}",
            plugin.name,
            plugin.path.display()
        ));
    }
    Ok(())
}

/// Adds the target where rustup manages the toolchain; elsewhere cargo says what is missing.
fn add_target(source: &Path) -> Result<(), BuildError> {
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
fn compile(name: &str, source: &Path) -> Result<PathBuf, BuildError> {
    #[derive(Deserialize)]
    struct Artifact {
        reason: String,
        #[serde(default)]
        manifest_path: PathBuf,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let manifest = source.join("Cargo.toml");
    let output = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET])
        .args(["--config", OVERFLOW_CHECKS])
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(&manifest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| BuildError::Other(format!("cargo cannot be run: {error}")))?;
    if !output.status.success() {
        let reason = format!("plugin {name:?} does not compile");
        return Err(BuildError::Crate(reason));
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
            BuildError::Crate(reason)
        })
}

/// Puts a file in place as a whole: whoever reads it sees the old one or the new one. A file with
/// the same content stays untouched.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    fs::write(&new, bytes)?;
    fs::rename(new, to)
}
