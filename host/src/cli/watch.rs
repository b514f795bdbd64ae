//! `mixlab up --watch`: builds plugins again while the server runs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::build;
use crate::{
    config::{Config, Plugin},
    reload::ConfigSource,
};

/// An editor writes several files at once; they make one build.
const SETTLE: Duration = Duration::from_millis(100);

/// Builds a plugin again whenever a file of its source changes, and one that is new in `mixlab.toml`
/// at once; runs until the process ends.
pub fn watch(config: &Config, source: &ConfigSource) {
    let (changes, changed) = mpsc::channel();
    let Some((mut sources, _config)) = start(&changes, config, source) else {
        return;
    };
    while let Ok(mut paths) = changed.recv() {
        while let Ok(more) = changed.recv_timeout(SETTLE) {
            paths.extend(more);
        }
        let mut plugins = sources.changed(&paths);
        if std::path::absolute(&source.path).is_ok_and(|file| paths.contains(&file)) {
            // What is wrong with it is the reload's to say.
            if let Ok(config) = Config::load(&source.path, source.overrides.clone()) {
                plugins.extend(sources.follow(&config));
            }
        }
        for plugin in plugins {
            let built = build::build([&plugin]).map_err(|error| error.reason);
            if let Err(reason) = &built {
                tracing::error!(plugin = plugin.name, "{reason}");
            }
            if let Some(builds) = &source.builds {
                builds.ended(&plugin.name, built);
            }
        }
    }
}

/// Watches the sources and, with a watcher of its own, the folder of `mixlab.toml`: a folder that is
/// both would be watched in one way only.
fn start(
    changes: &mpsc::Sender<Vec<PathBuf>>,
    config: &Config,
    source: &ConfigSource,
) -> Option<(Sources, RecommendedWatcher)> {
    let unwatched = |error: notify::Error| tracing::error!(%error, "sources cannot be watched");
    let mut sources = Sources {
        watcher: watcher(changes).map_err(unwatched).ok()?,
        plugins: HashMap::new(),
    };
    sources.follow(config);
    let mut folder = watcher(changes).map_err(unwatched).ok()?;
    let file = std::path::absolute(&source.path).unwrap_or_else(|_| source.path.clone());
    let parent = file.parent().unwrap_or(Path::new("."));
    if let Err(error) = folder.watch(parent, RecursiveMode::NonRecursive) {
        tracing::error!(file = %file.display(), %error, "new plugins in it will not be seen");
    }
    Some((sources, folder))
}

fn watcher(changes: &mpsc::Sender<Vec<PathBuf>>) -> notify::Result<RecommendedWatcher> {
    let changes = changes.clone();
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Ok(event) = event
            && !matches!(event.kind, EventKind::Access(_))
        {
            // The receiver is gone only when the process ends.
            let _ = changes.send(event.paths);
        }
    })
}

/// The folders that plugins are built from.
struct Sources {
    watcher: RecommendedWatcher,
    /// By their names.
    plugins: HashMap<String, (Plugin, PathBuf)>,
}

impl Sources {
    /// Watches those of `config` from now on; returns the plugins whose source is a new one.
    fn follow(&mut self, config: &Config) -> Vec<Plugin> {
        let former = std::mem::take(&mut self.plugins);
        for plugin in config.plugins.iter().filter(|plugin| plugin.enabled) {
            let source = plugin.source.as_ref();
            if let Some(source) = source.and_then(|source| std::path::absolute(source).ok()) {
                self.plugins
                    .insert(plugin.name.clone(), (plugin.clone(), source));
            }
        }
        let in_use = |plugins: &HashMap<String, (Plugin, PathBuf)>, source: &Path| {
            plugins.values().any(|(_, its)| its == source)
        };
        for (_, gone) in former.values() {
            if !in_use(&self.plugins, gone) {
                // It may have been deleted, which ends the watch as well.
                let _ = self.watcher.unwatch(gone);
            }
        }
        let mut new = Vec::new();
        for (name, (plugin, source)) in &self.plugins {
            if former.get(name).is_some_and(|(_, its)| its == source) {
                continue;
            }
            new.push(plugin.clone());
            if in_use(&former, source) {
                continue;
            }
            if let Err(error) = self.watcher.watch(source, RecursiveMode::Recursive) {
                tracing::error!(plugin = name, %error, "the source cannot be watched");
            }
        }
        new
    }

    /// The plugins that these files are sources of.
    fn changed(&self, paths: &[PathBuf]) -> Vec<Plugin> {
        let of = |source: &Path| {
            // A crate with its own workspace is built into a folder of its own, which is no source.
            let output = source.join("target");
            let is_source = |path: &PathBuf| path.starts_with(source) && !path.starts_with(&output);
            paths.iter().any(is_source)
        };
        let plugins = self.plugins.values().filter(|(_, source)| of(source));
        plugins.map(|(plugin, _)| plugin.clone()).collect()
    }
}
