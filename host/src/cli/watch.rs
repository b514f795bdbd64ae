//! `mixlab up --watch`: builds plugins again while the server runs.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant, SystemTime},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::{
    build::{self, BuildError, Words},
    products::{Files, Products},
    sources::Sources,
};
use crate::{
    config::{Config, ConfigError, Plugin, Runtime},
    reload::{ConfigSource, FailedBuild},
};

/// An editor writes several files at once; they make one build.
const SETTLE: Duration = Duration::from_millis(100);

/// Sources that never come to rest, as those that a tool writes to all the time, are built after so long all the same.
const UNSETTLED: Duration = Duration::from_secs(2);

/// When to try again what failed and may succeed although no file changed: to read `mixlab.toml`, to
/// run cargo, to watch a folder that is still to come.
const RETRY: Duration = Duration::from_secs(2);

/// Builds a plugin again whenever a file that it is made from changes, and one that is new in
/// `mixlab.toml` at once; runs until the process ends. The plugins of `config` were built before the
/// server began to serve, from their sources as they were at `built_at`.
pub(super) fn watch(config: &Config, source: &ConfigSource, built_at: SystemTime) {
    let (changes, changed) = mpsc::channel();
    let watchers = watcher(&changes).and_then(|sources| Ok((sources, watcher(&changes)?)));
    let (sources, files) = match watchers {
        Ok(watchers) => watchers,
        Err(error) => return tracing::error!(%error, "sources cannot be watched"),
    };
    let config_file = std::path::absolute(&source.path).unwrap_or_else(|_| source.path.clone());
    let mut watch = Watch {
        source,
        sources: Folders::new(sources, RecursiveMode::Recursive),
        files: Folders::new(files, RecursiveMode::NonRecursive),
        runtime: config.runtime.clone(),
        plugins: BTreeMap::new(),
        // It may have changed before it is watched.
        config_is_due: true,
        config_file,
    };
    watch.take(config);
    for plugin in watch.plugins.values_mut() {
        plugin.is_due = false;
        plugin.built_at = built_at;
    }
    watch.follow();
    watch.catch_up();
    loop {
        let event = if watch.has_more_to_do() {
            changed.recv_timeout(RETRY)
        } else {
            changed.recv().map_err(RecvTimeoutError::from)
        };
        let mut paths = match event {
            Ok(paths) => paths,
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let unsettled = Instant::now() + UNSETTLED;
        while !paths.is_empty()
            && Instant::now() < unsettled
            && let Ok(more) = changed.recv_timeout(SETTLE)
        {
            paths.extend(more);
        }
        watch.note(&paths);
        watch.catch_up();
    }
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

/// What is watched, and what is still to be done about it.
struct Watch<'a> {
    source: &'a ConfigSource,
    /// The folders that plugins are built from.
    sources: Folders,
    /// Those of single files, with a watcher of their own: a folder can be watched in one way only.
    files: Folders,
    /// What makes components of modules.
    runtime: Runtime,
    /// By their names.
    plugins: BTreeMap<String, Built>,
    config_file: PathBuf,
    /// Whether `mixlab.toml` is to be read.
    config_is_due: bool,
}

/// A plugin with a source.
struct Built {
    plugin: Plugin,
    /// The folder of its source, absolute.
    folder: PathBuf,
    sources: Sources,
    products: Products,
    /// When the build began that was the last.
    built_at: SystemTime,
    /// Whether it is still to be seen what changed between that and the first look at the sources.
    is_unseen: bool,
    /// Whether it is to be built.
    is_due: bool,
    failure: Option<String>,
}

impl Watch<'_> {
    fn has_more_to_do(&self) -> bool {
        let is_due = self.plugins.values().any(|plugin| plugin.is_due);
        self.config_is_due || is_due || self.sources.has_more_to_do()
    }

    /// What these files, which changed, are of is due.
    fn note(&mut self, paths: &[PathBuf]) {
        self.config_is_due |= paths.contains(&self.config_file);
        for plugin in self.plugins.values_mut() {
            if paths.iter().any(|path| plugin.sources.contain(path)) {
                plugin.is_due |= plugin.products.look(plugin.files());
            }
        }
    }

    /// Does what is due; what fails for a passing reason remains so.
    fn catch_up(&mut self) {
        if self.config_is_due {
            match Config::load(&self.source.path, self.source.overrides.clone()) {
                Ok(config) => self.take(&config),
                Err(ConfigError::Unreadable { .. }) => return,
                // What is wrong with it is the reload's to say.
                Err(_) => {}
            }
            self.config_is_due = false;
        }
        for plugin in self.plugins.values_mut().filter(|plugin| plugin.is_due) {
            let built = plugin.build(&self.runtime);
            if let Some(builds) = &self.source.builds {
                builds.ended(&plugin.plugin.name, built);
            }
        }
        self.follow();
    }

    /// The plugins of this configuration from now on. Those whose source is a new one are due.
    fn take(&mut self, config: &Config) {
        self.runtime = config.runtime.clone();
        let mut former = std::mem::take(&mut self.plugins);
        for plugin in config.plugins.iter().filter(|plugin| plugin.enabled) {
            let source = plugin.source.as_ref();
            let Some(folder) = source.and_then(|source| std::path::absolute(source).ok()) else {
                continue;
            };
            let same = former.remove(&plugin.name);
            let built = match same.filter(|former| former.folder == folder) {
                Some(former) => Built {
                    is_due: former.is_due
                        || former.plugin.path != plugin.path
                        || former.plugin.build != plugin.build,
                    plugin: plugin.clone(),
                    ..former
                },
                None => Built {
                    plugin: plugin.clone(),
                    sources: Sources::of(plugin, &folder),
                    products: Products::default(),
                    built_at: SystemTime::now(),
                    is_unseen: true,
                    folder,
                    is_due: true,
                    failure: None,
                },
            };
            self.plugins.insert(plugin.name.clone(), built);
        }
    }

    /// Watches what the plugins are made from, as it is known now. A plugin whose folder was still to
    /// come is due when it has.
    fn follow(&mut self) {
        let folders = self
            .plugins
            .values()
            .flat_map(|plugin| &plugin.sources.folders);
        let late = self.sources.follow(folders.cloned().collect());
        let workspaces = self
            .plugins
            .values()
            .flat_map(|plugin| &plugin.sources.workspace);
        let files = workspaces.chain([&self.config_file]);
        let folders = files.filter_map(|file| file.parent().map(Path::to_owned));
        self.files.follow(folders.collect());
        for plugin in self.plugins.values_mut() {
            plugin.is_due |= late
                .iter()
                .any(|folder| plugin.sources.folders.contains(folder));
            if std::mem::take(&mut plugin.is_unseen) {
                let now = plugin.files();
                plugin.is_due |= plugin.products.look_first(now, plugin.built_at);
            }
        }
    }
}

impl Built {
    fn files(&self) -> Files {
        self.sources.files(self.products.seen())
    }

    fn build(&mut self, runtime: &Runtime) -> Result<(), FailedBuild> {
        self.built_at = SystemTime::now();
        let before = self.files();
        let words = Words::default();
        let built = build::build([&self.plugin], runtime, Some(&words));
        let has_more = self.products.built(&before, self.sources.files(&before));
        // Its dependencies may be others now, and were not watched meanwhile.
        let sources = Sources::of(&self.plugin, &self.folder);
        self.is_unseen |= sources != self.sources;
        self.sources = sources;
        let is_passing = matches!(built, Err(BuildError::Other(_)));
        self.is_due = is_passing || has_more;
        let failure = built.err().map(|error| error.to_string());
        // It is built again because it changed: what is wrong with it is said again, too.
        if let Some(reason) = &failure
            && (!is_passing || self.failure != failure)
        {
            tracing::error!(plugin = self.plugin.name, "{reason}");
        }
        self.failure = failure;
        match self.failure.clone() {
            None => Ok(()),
            Some(reason) => Err(FailedBuild {
                reason,
                words: words.text(),
            }),
        }
    }
}

/// Folders that are watched.
struct Folders {
    watcher: RecommendedWatcher,
    mode: RecursiveMode,
    watched: HashSet<PathBuf>,
    /// Those that could not be watched.
    missing: HashSet<PathBuf>,
}

impl Folders {
    fn new(watcher: RecommendedWatcher, mode: RecursiveMode) -> Self {
        Self {
            watcher,
            mode,
            watched: HashSet::new(),
            missing: HashSet::new(),
        }
    }

    fn has_more_to_do(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Watches these from now on; returns those that could not be watched before.
    fn follow(&mut self, mut folders: HashSet<PathBuf>) -> Vec<PathBuf> {
        if self.mode == RecursiveMode::Recursive {
            let all = folders.clone();
            let is_in_another =
                |folder: &PathBuf| folder.ancestors().skip(1).any(|outer| all.contains(outer));
            folders.retain(|folder| !is_in_another(folder));
        }
        let gone: Vec<PathBuf> = self.watched.difference(&folders).cloned().collect();
        for folder in &gone {
            // It may have been deleted, which ends the watch as well.
            let _ = self.watcher.unwatch(folder);
            self.watched.remove(folder);
        }
        // A deleted folder is watched no more, whatever takes its place.
        self.watched.retain(|folder| folder.is_dir());
        let mut late = Vec::new();
        let mut missing = HashSet::new();
        for folder in folders {
            // What is in one that is gone may have gone from the watch with it.
            let is_watched = self.watched.contains(&folder);
            if is_watched && !gone.iter().any(|gone| folder.starts_with(gone)) {
                continue;
            }
            if let Err(error) = self.watcher.watch(&folder, self.mode) {
                if !self.missing.contains(&folder) {
                    let folder = folder.display();
                    tracing::error!(%folder, %error, "a source cannot be watched yet");
                }
                missing.insert(folder);
                continue;
            }
            if self.missing.contains(&folder) {
                late.push(folder.clone());
            }
            self.watched.insert(folder);
        }
        self.missing = missing;
        late
    }
}
