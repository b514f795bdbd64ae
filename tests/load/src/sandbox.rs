//! A MixLab with plugins that a scenario replaces while they serve, in a folder of its own.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{
    backend::Backend,
    options::{PluginOptions, ServerOptions},
    placements::Placements,
    report::Report,
    running::Running,
    swapper::Swapper,
    target::Target,
    versions::Versions,
};

/// The plugin that is replaced, and its event.
pub const REPLACED: &str = "stamped";

/// The server, and the folder that goes with it.
pub struct Sandbox {
    running: Running,
    /// What may answer for the plugin that is replaced.
    pub placements: Arc<Placements>,
    _folder: TempDir,
}

impl Sandbox {
    /// Starts it with version 1 of the plugin, and with others that are never replaced: names,
    /// files and grants.
    pub async fn start(
        options: &ServerOptions,
        files: &PluginOptions,
        others: &[(&str, &Path, &str)],
    ) -> Result<(Self, Swapper)> {
        let folder = TempDir::new()?;
        let (plugins, staging) = (folder.path().join("plugins"), folder.path().join("staging"));
        for folder in [&plugins, &staging] {
            fs::create_dir(folder)?;
        }
        let place = plugins.join("plugin.wasm");
        let mut versions = Versions::new(files, place.clone(), &staging)?;
        versions.stage(1)?;
        versions.put()?;
        let mut config = configuration(folder.path());
        config += &plugin(REPLACED, &place, "");
        for (name, file, grant) in others {
            config += &plugin(name, file, grant);
        }
        let config_file = folder.path().join("mixlab.toml");
        fs::write(&config_file, config)?;
        let running = Running::start_mixlab(options, &config_file).await?;

        let mut backend = Backend::connect(&running.target).await?;
        for name in others.iter().map(|(name, ..)| *name).chain([REPLACED]) {
            let state = backend.plugin(name).await?;
            ensure!(
                state.generation == 1,
                "plugin {name} does not serve: {:?}",
                state.refusal
            );
        }
        let placements = Arc::new(Placements::new(1));
        let swapper = Swapper::new(versions, placements.clone(), backend);
        let sandbox = Self {
            running,
            placements,
            _folder: folder,
        };
        Ok((sandbox, swapper))
    }

    /// The server.
    pub fn target(&self) -> &Arc<Target> {
        &self.running.target
    }

    /// Ends the server, and hands the scenario's result on.
    pub async fn stop_after(self, result: Result<Report>) -> Result<Report> {
        self.running.stop_after(result).await
    }
}

/// The debounce time and all budgets are the defaults: what users have is what is measured. The
/// cache is empty at first, so that every new version is compiled.
fn configuration(folder: &Path) -> String {
    let cache = folder.join("cache");
    format!("[log]\nlevel = \"warn\"\n[runtime]\ncache = {cache:?}\n")
}

fn plugin(name: &str, file: &Path, grant: &str) -> String {
    let grants = if grant.is_empty() {
        vec![]
    } else {
        vec![grant]
    };
    format!("[[plugins]]\nname = {name:?}\npath = {file:?}\ngrants = {grants:?}\n")
}
