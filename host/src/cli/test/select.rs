//! Which cases are run, and with which plugins.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::shown;
use crate::{
    config::{self, Config},
    grant::Grants,
    plugin::{Code, is_script},
    trial::{
        self,
        cases::{Case, CaseFile, SUFFIX},
    },
};

/// Folders in which nobody writes cases.
const SKIPPED: [&str; 3] = ["target", "node_modules", ".git"];

/// What scripts end with, and components.
const ENDINGS: [&str; 5] = ["ts", "mts", "js", "mjs", "wasm"];

/// The cases of a file, and what they are run with.
pub(super) struct Selected {
    /// The name of the plugin that they are about.
    pub plugin: String,
    pub cases: Vec<Case>,
    /// What comes of the cases depends on these files, whether they are there or not.
    pub files: Vec<PathBuf>,
    config: Config,
}

impl Selected {
    /// What a case is run with.
    pub(super) fn config_for(&self, case: &Case) -> Config {
        let mut config = self.config.clone();
        let plugin = config.plugins.iter_mut();
        let mut plugin = plugin.filter(|plugin| plugin.name == self.plugin);
        if let (Some(plugin), Some(own)) = (plugin.next(), &case.config) {
            plugin.config = serde_json::Value::Object(own.clone()).to_string();
        }
        config
    }
}

/// A file whose cases cannot be run, or a folder in which none can be looked for.
pub(super) struct Unusable {
    /// As it is shown.
    pub file: PathBuf,
    pub reason: String,
    /// The reason may lie in these, whether they are there or not.
    pub files: Vec<PathBuf>,
}

/// Where cases are looked for: the folders and files in which there may be some, whether they are there or not.
pub(super) fn places(config: &Config, files: &[PathBuf]) -> Vec<PathBuf> {
    if !files.is_empty() {
        return files.to_vec();
    }
    let plugins = config.plugins.iter();
    let places =
        plugins.flat_map(|plugin| [own_cases(plugin)].into_iter().chain(plugin.source.clone()));
    places.collect()
}

/// Finds the cases in these files and folders, or else beside the plugins of `config`. One that is of no use
/// keeps nobody from the others.
pub(super) fn select(
    config: &Config,
    files: &[PathBuf],
) -> Result<Vec<Result<Selected, Unusable>>, String> {
    let mut found = Vec::new();
    for file in files {
        if file.is_dir() {
            found.extend(below(file));
        } else {
            found.push(file.clone());
        }
    }
    if files.is_empty() {
        found = config.plugins.iter().flat_map(beside).collect();
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(format!(
            "there are no cases: files with them end with {SUFFIX} and are beside plugins"
        ));
    }
    let selected = found.iter().map(|file| {
        let mut files = vec![file.clone()];
        match selected(config, file, &mut files) {
            Ok(selected) => Ok(Selected { files, ..selected }),
            Err(reason) => Err(Unusable {
                file: shown(file),
                reason,
                files,
            }),
        }
    });
    Ok(selected.collect())
}

/// The files with cases that are beside a plugin, or in the folder that it is made from.
fn beside(plugin: &config::Plugin) -> Vec<PathBuf> {
    let own = own_cases(plugin);
    let source = plugin.source.iter().flat_map(|folder| listed(folder));
    let in_source = source.filter(|path| is_case_file(path));
    own.is_file()
        .then_some(own)
        .into_iter()
        .chain(in_source)
        .collect()
}

/// The file with cases that is called like a plugin's file, and beside it.
fn own_cases(plugin: &config::Plugin) -> PathBuf {
    let stem = plugin.path.file_stem().unwrap_or_default();
    let name = format!("{}{SUFFIX}", stem.to_string_lossy());
    plugin.path.with_file_name(name)
}

fn is_case_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().ends_with(SUFFIX)
}

/// What is in a folder.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The files with cases below a folder, and the folders that cannot be looked into: to read such a one as a
/// file says why.
pub(super) fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if fs::read_dir(&folder).is_err() {
            found.push(folder);
            continue;
        }
        for path in listed(&folder) {
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && !path.is_symlink() && !SKIPPED.iter().any(|it| name == *it) {
                folders.push(path);
            } else if is_case_file(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// What a file with cases says is run; and the `files` that this depends on.
fn selected(config: &Config, path: &Path, files: &mut Vec<PathBuf>) -> Result<Selected, String> {
    let file = CaseFile::read(path).map_err(|error| error.to_string())?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut plugin = plugin(config, &file, folder, files)?;
    let mut cases = file.written.case;
    if let Some(others) = &file.written.cases {
        let others = folder.join(others);
        files.push(others.clone());
        let others = CaseFile::read(&others).map_err(|error| error.to_string())?;
        cases.splice(0..0, others.written.case);
    }
    if let Some(own) = file.written.config {
        plugin.config = serde_json::Value::Object(own).to_string();
    }
    if let Some(grants) = file.written.grants {
        plugin.grants = grants;
    }
    let mut plugins = Vec::new();
    for known in &config.plugins {
        if known.name == plugin.name {
            continue;
        }
        if file.written.with.contains(&known.name) {
            plugins.push(config::Plugin {
                enabled: true,
                ..known.clone()
            });
        }
    }
    let mut beside = Vec::new();
    for name in &file.written.with {
        let path = folder.join(name);
        if plugins.iter().any(|plugin| plugin.name == *name) {
            continue;
        }
        files.push(path.clone());
        if !path.is_file() {
            let file = file.path.display();
            return Err(format!(
                "{file}: there is no other plugin {name:?}, in mixlab.toml or as a file"
            ));
        }
        beside.push(trial::plugin_with(config, &path, Grants::default()));
    }
    let name = plugin.name.clone();
    // They filter in the order of mixlab.toml.
    let place = config.plugins.iter().position(|known| known.name == name);
    let before = config.plugins.iter().take(place.unwrap_or(0));
    let before = before
        .filter(|known| file.written.with.contains(&known.name))
        .count();
    plugins.insert(before, plugin);
    plugins.extend(beside);
    for plugin in &plugins {
        files.push(plugin.path.clone());
        if is_script(&plugin.path)
            && let Ok(reading) = Code::read(&plugin.path, plugin.budget.file)
        {
            files.extend(reading.imports);
        }
    }
    Ok(Selected {
        plugin: name,
        cases,
        files: Vec::new(),
        config: Config {
            plugins,
            ..config.clone()
        },
    })
}

/// The plugin that a file is about: as it says; or the script or component beside it that is called like it;
/// or the plugin of `mixlab.toml` that is.
fn plugin(
    config: &Config,
    file: &CaseFile,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<config::Plugin, String> {
    let known = |name: &str| config.plugins.iter().find(|plugin| plugin.name == name);
    let file_name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file_name.strip_suffix(SUFFIX).unwrap_or_default();
    let mut beside = || {
        let paths = ENDINGS.map(|ending| folder.join(format!("{stem}.{ending}")));
        files.extend(paths.iter().cloned());
        paths.into_iter().find(|path| path.is_file())
    };
    let path = match (&file.written.path, &file.written.plugin) {
        (Some(path), _) => Some(folder.join(path)),
        (None, Some(_)) => None,
        (None, None) => beside(),
    };
    let name = file.written.plugin.as_deref().unwrap_or(stem);
    match (path, known(name)) {
        (Some(path), None) => {
            let nothing = Grants::default();
            Ok(trial::plugin_with(config, &path, nothing))
        }
        (Some(path), Some(plugin)) => Ok(config::Plugin {
            path,
            enabled: true,
            ..plugin.clone()
        }),
        (None, Some(plugin)) => Ok(config::Plugin {
            enabled: true,
            ..plugin.clone()
        }),
        (None, None) => Err(format!(
            "{}: there is no plugin {name:?}: it says neither `path` nor a `plugin` of mixlab.toml, and \
             none is beside it",
            file.path.display()
        )),
    }
}
