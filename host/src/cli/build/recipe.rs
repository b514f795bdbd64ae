//! How a plugin is built: as `mixlab.toml` says, or as the manifest in its source shows.

use std::{
    fs, io,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use super::{BuildError, Words, cargo, kit::Kit};
use crate::config::Plugin;

/// How a component is made from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Recipe<'a> {
    /// Cargo knows where it put it.
    Cargo,
    /// A program, which writes it where it is told.
    Program {
        line: &'a [&'a str],
        /// What brings the program.
        install: &'a str,
    },
    /// A line of a shell, which does as well.
    Shell(&'a str),
    /// componentize-py, with the package `mixlab`.
    Python,
}

const NPM: Recipe<'static> = Recipe::Program {
    line: &["npm", "run", "build"],
    install: "Node.js with npm (on Debian: apt-get install npm)",
};

const MAKE: Recipe<'static> = Recipe::Program {
    line: &["make"],
    install: "make (on Debian: apt-get install make)",
};

/// What brings the compiler for Python. Other versions of it name things in another way.
const COMPONENTIZE_PY: &str = "it: pip install componentize-py==0.25.1";

/// Manifests, and what they stand for. The first that is there counts.
const MANIFESTS: [(&str, Recipe<'static>); 6] = [
    ("Cargo.toml", Recipe::Cargo),
    ("pyproject.toml", Recipe::Python),
    ("package.json", NPM),
    ("Makefile", MAKE),
    ("makefile", MAKE),
    ("GNUmakefile", MAKE),
];

impl<'a> Recipe<'a> {
    /// The one for this plugin.
    pub(in crate::cli) fn of(plugin: &'a Plugin, source: &Path) -> Result<Self, BuildError> {
        if !source.is_dir() {
            let (name, source) = (&plugin.name, source.display());
            return Err(BuildError::Source(format!(
                "plugin {name:?}: its source {source} is no folder"
            )));
        }
        if let Some(line) = &plugin.build {
            return Ok(Self::Shell(line));
        }
        let found = MANIFESTS
            .iter()
            .find(|(manifest, _)| source.join(manifest).is_file());
        if let Some((_, recipe)) = found {
            return Ok(*recipe);
        }
        Err(BuildError::Source(format!(
            "plugin {:?}: in {} is no Cargo.toml, pyproject.toml, package.json or Makefile; say in mixlab.toml with `build` how \
             it is built",
            plugin.name,
            source.display()
        )))
    }

    /// Makes the component.
    pub(super) fn follow(
        self,
        plugin: &Plugin,
        source: &Path,
        words: Option<&Words>,
    ) -> Result<Vec<u8>, BuildError> {
        let unreadable = |path: &Path, error: io::Error| {
            BuildError::Other(format!("{}: {error}", path.display()))
        };
        let kit = || Kit::beside(&plugin.path).map_err(|error| unreadable(&plugin.path, error));
        let (mut command, shown, install) = match self {
            Self::Cargo => {
                let file = cargo::compile(&plugin.name, source, words)?;
                return fs::read(&file).map_err(|error| unreadable(&file, error));
            }
            Self::Program { line, install } => {
                let mut command = Command::new(line[0]);
                command.args(&line[1..]);
                (command, line.join(" "), install)
            }
            Self::Shell(line) => {
                let mut command = Command::new("sh");
                command.args(["-c", line]);
                (command, line.to_owned(), "a shell")
            }
            Self::Python => {
                let command = kit()?
                    .componentize_py(plugin, source)
                    .map_err(|error| unreadable(source, error))?;
                (command, "componentize-py".to_owned(), COMPONENTIZE_PY)
            }
        };
        let kit = kit()?;
        let output = kit
            .output(&plugin.name)
            .map_err(|error| unreadable(&plugin.path, error))?;
        command
            .current_dir(source)
            .env("MIXLAB_WIT", kit.wit())
            .env("MIXLAB_C", kit.c())
            .env("MIXLAB_OUT", &output)
            .stdin(Stdio::null());
        let status = match words {
            Some(words) => heard(command, words),
            // What has been built is said on standard output.
            None => command.stdout(io::stderr()).status(),
        };
        let status = status.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                BuildError::Other(format!("{shown:?} cannot be run: install {install}"))
            }
            _ => BuildError::Other(format!("{shown:?} cannot be run: {error}")),
        })?;
        let name = &plugin.name;
        if !status.success() {
            let reason = format!("plugin {name:?} is not built: {shown:?} ended with {status}");
            return Err(BuildError::Source(reason));
        }
        fs::read(&output).map_err(|error| {
            let output = output.display();
            let reason = format!(
                "plugin {name:?} is not built: {shown:?} has not written $MIXLAB_OUT ({output}): {error}"
            );
            BuildError::Source(reason)
        })
    }
}

/// Runs a program whose words are kept.
fn heard(mut command: Command, words: &Words) -> io::Result<ExitStatus> {
    let hearing = words.hear()?;
    let status = command
        .stdout(hearing.stdio()?)
        .stderr(hearing.stdio()?)
        .status();
    // It could still say something.
    drop(command);
    hearing.end();
    status
}
