//! `mixlab new`: a plugin to begin with, with its cases and its place in `mixlab.toml`.

mod package;
mod templates;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use self::templates::{Template, Text};
use super::{EXIT_BAD_INPUT, Failure, Global, output::print, schema};
use crate::config::{Config, Overrides};

/// The folder that plugins are made in, beside `mixlab.toml`.
const FOLDER: &str = "plugins";

/// What editors know scripts by.
const DECLARATIONS: &str = include_str!("../../../plugins/mixlab.d.ts");

/// How editors are to read scripts.
const TSCONFIG: &str = include_str!("../../../plugins/tsconfig.json");

/// Where the SDK for Rust is on the machine that this program was made on. There it is used as it is, and
/// elsewhere by its version.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/sdk");

/// What no module of a plugin in Python can be called: words of the language, and modules that the package
/// `mixlab` and what is built around it import.
const TAKEN_MODULES: [&str; 58] = [
    "abc",
    "and",
    "array",
    "as",
    "asyncio",
    "assert",
    "async",
    "await",
    "base64",
    "break",
    "class",
    "collections",
    "componentize_py_types",
    "contextlib",
    "continue",
    "copy",
    "dataclasses",
    "def",
    "del",
    "elif",
    "else",
    "enum",
    "except",
    "finally",
    "fnmatch",
    "for",
    "from",
    "functools",
    "global",
    "if",
    "import",
    "in",
    "inspect",
    "is",
    "json",
    "keyword",
    "lambda",
    "mixlab",
    "mixlab_entry",
    "nonlocal",
    "not",
    "operator",
    "or",
    "os",
    "pass",
    "poll_loop",
    "raise",
    "re",
    "return",
    "sys",
    "traceback",
    "try",
    "types",
    "typing",
    "while",
    "with",
    "wit_world",
    "yield",
];

#[derive(Args)]
pub(super) struct New {
    /// What it is called: 1 to 64 of a-z, 0-9 and "-".
    name: String,
    /// What it is written in.
    #[arg(long)]
    lang: Language,
    /// What it begins with.
    #[arg(long, default_value = "chat")]
    template: Template,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Ts,
    Js,
    C,
    Python,
}

impl Language {
    /// What is to be done before a build, as the beginning of a line.
    fn before_build(self) -> &'static str {
        match self {
            Self::Python => {
                "`pip install componentize-py==0.25.1` once; `pytest` runs the tests of its handlers; "
            }
            Self::Rust => "`cargo test` runs the tests of its handlers; ",
            Self::Ts | Self::Js | Self::C => "",
        }
    }

    /// Whether its file is served as it is.
    fn is_script(self) -> bool {
        matches!(self, Self::Ts | Self::Js)
    }
}

impl New {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let bad_input = |reason: String| Failure {
            code: EXIT_BAD_INPUT,
            reason,
        };
        self.check_name().map_err(bad_input)?;
        let base = global.config.parent().unwrap_or(Path::new(""));
        // Of two that add to one file at once, the second would write what it read before the first had written.
        let _turn = turn(folder_or_here(base))?;
        // A configuration that cannot be read is not made worse.
        let config = Config::load_if_there(&global.config, global.overrides());
        let config = config.map_err(Failure::bad_input)?;
        if config.plugins.iter().any(|plugin| plugin.name == self.name) {
            let file = global.config.display();
            return Err(bad_input(format!(
                "{file} has a plugin {:?} already",
                self.name
            )));
        }
        let folder = base.join(FOLDER).join(&self.name);
        if folder.exists() {
            return Err(bad_input(format!("{} is there already", folder.display())));
        }
        let table = self.with_table(&global.config)?;
        let mut made = Vec::new();
        for (path, text) in self.files(&folder) {
            write(&path, &text)?;
            made.push(path);
        }
        if self.lang.is_script() {
            for (name, text) in beside_scripts() {
                let path = base.join(FOLDER).join(name);
                if !path.exists() {
                    write(&path, &text)?;
                    // Of the package, nobody needs to know more than where it is.
                    let is_of_package = path
                        .parent()
                        .is_some_and(|it| it.ends_with(package::FOLDER));
                    made.push(if is_of_package {
                        path.with_file_name("")
                    } else {
                        path
                    });
                }
            }
        }
        made.dedup();
        let schema = base.join(schema::FILE);
        if table.starts_with(schema::DIRECTIVE) && !schema.exists() {
            write(&schema, &schema::text())?;
            made.push(schema);
        }
        write(&global.config, &table)?;
        made.push(global.config.clone());
        print(|out| {
            for path in &made {
                writeln!(out, "wrote {}", path.display())?;
            }
            let build = match self.lang.is_script() {
                true => String::new(),
                false => format!("mixlab build {}, then ", self.name),
            };
            writeln!(out, "next: {build}mixlab test, and mixlab up")
        })?;
        Ok(())
    }

    fn check_name(&self) -> Result<(), String> {
        let name = &self.name;
        let is_good = (1..=64).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !is_good {
            return Err(format!(
                "{name:?}: expected 1 to 64 of a-z, 0-9 and \"-\", a letter first"
            ));
        }
        if self.lang == Language::Python && TAKEN_MODULES.contains(&module(name).as_str()) {
            return Err(format!("{name:?}: Python has another meaning for it"));
        }
        Ok(())
    }

    /// The configuration with the plugin's table at its end.
    fn with_table(&self, path: &Path) -> Result<String, Failure> {
        let mut text = match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => text + "\n",
            Ok(text) => text + "\n\n",
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("{}\n\n", schema::DIRECTIVE)
            }
            Err(error) => return Err(Failure::from(format!("{}: {error}", path.display()))),
        };
        let name = &self.name;
        let at = match self.lang.is_script() {
            true => format!("path = \"{FOLDER}/{name}/{}\"\n", self.file()),
            false => {
                format!("path = \"target/plugins/{name}.wasm\"\nsource = \"{FOLDER}/{name}\"\n")
            }
        };
        let grants = self.template.grants(name);
        text += &format!("[[plugins]]\nname = \"{name}\"\n{at}grants = [{grants}]\n");
        if self.template == Template::Webhook {
            let variable = name.to_ascii_uppercase().replace('-', "_");
            text += &format!(
                "\n[plugins.webhook]\nverify = \"standard\"\nsecret_env = \"{variable}_SECRET\"\n"
            );
        }
        // `plugins` may be written in a way that no table can follow.
        let folder = path.parent().unwrap_or(Path::new(""));
        let trial = tempfile_beside(folder);
        fs::write(&trial, &text)?;
        let read = Config::load(&trial, Overrides::default());
        let _ = fs::remove_file(&trial);
        match read {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::from(format!(
                "a plugin cannot be added to {}: {error}",
                path.display()
            ))),
        }
    }

    /// The file of its code, in its folder.
    fn file(&self) -> String {
        let name = &self.name;
        match self.lang {
            Language::Rust => "src/lib.rs".to_owned(),
            Language::Ts => format!("{name}.ts"),
            Language::Js => format!("{name}.js"),
            Language::C => format!("{name}.c"),
            Language::Python => format!("{}.py", module(name)),
        }
    }

    /// The plugin's files.
    fn files(&self, folder: &Path) -> Vec<(PathBuf, String)> {
        let name = &self.name;
        let (call, serve) = match self.lang.is_script() {
            false => (
                format!("target/plugins/{name}.wasm"),
                format!(
                    "{}`mixlab build {name}` builds it, `mixlab up --watch` serves it and builds it on every change.",
                    self.lang.before_build()
                ),
            ),
            true => (
                format!("{FOLDER}/{name}/{}", self.file()),
                format!(
                    "`mixlab up` serves it; a save is live at once. Who has Node tries its handlers by themselves: \
                     `npm install` and `npm test` in `{FOLDER}` run `{name}.test.mjs`."
                ),
            ),
        };
        let text = |text| self.template.text(text, name);
        let readme = text(Text::Readme)
            .replace("{{call}}", &call)
            .replace("{{serve}}", &serve);
        let mut files = vec![
            (folder.join("README.md"), readme),
            (folder.join(format!("{name}.test.toml")), text(Text::Cases)),
        ];
        let code = match self.lang {
            Language::Rust => Text::Rust,
            Language::Ts | Language::Js => Text::Script,
            Language::C => Text::C,
            Language::Python => Text::Python,
        };
        files.push((folder.join(self.file()), text(code)));
        match self.lang {
            Language::Rust => files.push((folder.join("Cargo.toml"), manifest(name))),
            Language::C => files.push((folder.join("Makefile"), text(Text::Makefile))),
            Language::Python => {
                let module = module(name);
                let test = text(Text::PythonTest).replace("{{module}}", &module);
                files.push((folder.join(format!("test_{module}.py")), test));
                files.push((folder.join("pyproject.toml"), text(Text::Pyproject)));
            }
            Language::Ts | Language::Js => {
                let test = text(Text::ScriptTest).replace("{{file}}", &self.file());
                files.push((folder.join(format!("{name}.test.mjs")), test));
            }
        }
        let more = self.template.more();
        let more = more.map(|(file, text)| (folder.join(file), text.to_owned()));
        files.into_iter().chain(more).collect()
    }
}

/// What all scripts of a folder have in common: for editors, and for tests in Node.js.
fn beside_scripts() -> impl Iterator<Item = (PathBuf, String)> {
    let of_package =
        package::files().map(|(name, text)| (Path::new(package::FOLDER).join(name), text));
    [
        ("mixlab.d.ts", DECLARATIONS.to_owned()),
        ("tsconfig.json", TSCONFIG.replace("\"*.ts\"", "\"**/*.ts\"")),
        ("package.json", package::MANIFEST.to_owned()),
    ]
    .map(|(name, text)| (PathBuf::from(name), text))
    .into_iter()
    .chain(of_package)
}

/// The module of a plugin in Python.
fn module(name: &str) -> String {
    name.replace('-', "_")
}

/// The manifest of a crate that belongs to no workspace.
fn manifest(name: &str) -> String {
    let sdk = Path::new(SDK);
    let version = env!("CARGO_PKG_VERSION");
    let sdk = match fs::canonicalize(sdk) {
        Ok(sdk) => format!("{{ path = {:?} }}", sdk.to_string_lossy()),
        Err(_) => format!("{version:?}"),
    };
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = \
         [\"cdylib\"]\n\n[dependencies]\nmixlab-plugin = {sdk}\n\n# It is built by itself, wherever it \
         is.\n[workspace]\n"
    )
}

fn folder_or_here(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

/// A turn in this folder, which lasts as long as the value: nobody else has one meanwhile.
fn turn(folder: &Path) -> Result<fs::File, Failure> {
    let failed = |error: io::Error| Failure::from(format!("{}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(failed)?;
    let turn = fs::File::open(folder).map_err(failed)?;
    turn.lock().map_err(failed)?;
    Ok(turn)
}

/// A file that nobody has.
fn tempfile_beside(folder: &Path) -> PathBuf {
    folder.join(format!(".mixlab-{:016x}.toml", rand::random::<u64>()))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder_or_here(folder)).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}
