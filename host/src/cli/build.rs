//! `mixlab build`: from the sources that `mixlab.toml` names to components.

pub(super) mod cargo;
mod kit;
mod recipe;
mod words;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Failure, Global, output::say};
use crate::{
    config::{Config, Plugin, Runtime},
    plugin::{encoded, is_core_module, is_script, why_no_component},
};

pub(super) use self::{kit::FOLDER, recipe::Recipe, words::Words};

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
        Ok(build(
            config.plugins.iter().filter(wanted),
            &config.runtime,
            None,
        )?)
    }
}

/// Builds all plugins that are switched on and name a source.
pub(super) fn all(config: &Config) -> Result<(), Failure> {
    let switched_on = config.plugins.iter().filter(|plugin| plugin.enabled);
    Ok(build(switched_on, &config.runtime, None)?)
}

/// Why there is no new component.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// The source is no good as it is.
    #[error("{0}")]
    Source(String),
    /// It could not be tried, or not be put in place.
    #[error("{0}")]
    Other(String),
}

/// Builds these plugins, as far as they name a source. What the builds say goes to standard error, and into `words`.
pub(super) fn build<'a>(
    plugins: impl IntoIterator<Item = &'a Plugin>,
    runtime: &Runtime,
    words: Option<&Words>,
) -> Result<(), BuildError> {
    let mut wanted = Vec::new();
    for plugin in plugins {
        if let Some(source) = &plugin.source {
            wanted.push((plugin, source, Recipe::of(plugin, source)?));
        }
    }
    let first_crate = wanted
        .iter()
        .find(|(_, _, recipe)| matches!(recipe, Recipe::Cargo));
    if let Some((_, source, _)) = first_crate {
        cargo::add_target(source)?;
    }
    for (plugin, source, recipe) in wanted {
        let mut component = recipe.follow(plugin, source, words)?;
        let none = |reason: &str| {
            let name = &plugin.name;
            BuildError::Source(format!("plugin {name:?} makes no component: {reason}"))
        };
        if is_core_module(&component) {
            component = encoded(&component, runtime).map_err(|reason| none(&reason))?;
        }
        // A build may make a script, too.
        if !is_script(&plugin.path)
            && let Some(reason) = why_no_component(&component)
        {
            return Err(none(reason));
        }
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

/// Puts a file in place as a whole: whoever reads it sees the old one or the new one. A file with
/// the same content stays untouched.
fn put(bytes: &[u8], to: &Path) -> io::Result<()> {
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let new = unfinished(to);
    fs::write(&new, bytes)?;
    fs::rename(new, to)
}

/// Where a file is written before it is put in place.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
