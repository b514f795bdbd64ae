//! Whatever is wrong with a configuration, and where. All problems are collected, so that the one
//! that is reported is the first of the file and not the first that was stumbled upon.

use figment::error::{Actual, Kind};

use super::ConfigError;
use super::environment::{Environment, Variable, variable_name};
use super::locate::Document;
use crate::suggest;

/// A key by its path from the root, an index for each list on the way.
pub(super) type KeyPath = Vec<String>;

/// The path of a key written with dots, e.g. `plugins.0.name`.
pub(super) fn key(dotted: &str) -> KeyPath {
    dotted.split('.').map(Into::into).collect()
}

#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

struct Problem {
    place: Place,
    fault: Fault,
}

enum Place {
    Key(KeyPath),
    Variable(String),
}

pub(super) enum Fault {
    /// No such key; these are the keys there.
    Unknown(&'static [&'static str]),
    /// What is wrong with the value.
    Invalid(String),
}

impl Problems {
    /// Adds what is wrong with the value of a key.
    pub(super) fn invalid(&mut self, path: KeyPath, message: impl Into<String>) {
        self.add(path, Fault::Invalid(message.into()));
    }

    /// Adds what is wrong with a key.
    pub(super) fn add(&mut self, path: KeyPath, fault: Fault) {
        self.0.push(Problem {
            place: Place::Key(path),
            fault,
        });
    }

    /// Adds what is wrong with an environment variable as such.
    pub(super) fn variable(&mut self, name: &str, message: &str) {
        self.0.push(Problem {
            place: Place::Variable(name.into()),
            fault: Fault::Invalid(message.into()),
        });
    }

    /// Whether something is already known to be wrong with this key.
    pub(super) fn has(&self, path: &[String]) -> bool {
        self.0
            .iter()
            .any(|problem| matches!(&problem.place, Place::Key(key) if key.starts_with(path)))
    }

    /// The problem to report: the first in the file, else the first of the environment.
    pub(super) fn into_first(
        self,
        document: &Document,
        environment: &Environment,
    ) -> Option<ConfigError> {
        let errors = self
            .0
            .into_iter()
            .map(|problem| problem.locate(document, environment));
        errors.min_by_key(|error| match error {
            ConfigError::File {
                line: Some(line), ..
            } => *line,
            _ => usize::MAX,
        })
    }
}

impl Problem {
    fn locate(self, document: &Document, environment: &Environment) -> ConfigError {
        let path = match self.place {
            Place::Key(path) => path,
            Place::Variable(name) => {
                return ConfigError::Override {
                    name,
                    message: self.fault.message(),
                };
            }
        };
        let variable = environment.setting(&path).or_else(|| {
            // An unknown section that only the environment names.
            environment.within(&path).filter(|_| !document.has(&path))
        });
        match variable {
            Some(variable) => self.fault.in_variable(&path, variable),
            None => self.fault.in_file(&path, document),
        }
    }
}

impl Fault {
    /// The fault in what figment found. The path is figment's own.
    pub(super) fn of(kind: Kind) -> Self {
        let expected = |expected: &str, actual| {
            format!("expected {}, found {}", wanted(expected), found(actual))
        };
        Fault::Invalid(match kind {
            Kind::UnknownField(_, known) => return Fault::Unknown(known),
            Kind::Message(message) => message,
            Kind::InvalidType(actual, wanted) | Kind::InvalidValue(actual, wanted) => {
                expected(&wanted, actual)
            }
            other => other.to_string(),
        })
    }

    fn message(self) -> String {
        match self {
            Fault::Invalid(message) => message,
            Fault::Unknown(known) => format!("unknown key{}", suggest::hint("", known)),
        }
    }

    fn in_file(self, path: &[String], document: &Document) -> ConfigError {
        let about = |path: &[String], message| match path {
            [] => message,
            path => format!("{}: {message}", readable(path, document)),
        };
        let message = match (&self, path) {
            (Fault::Unknown(_), [section, key]) if section == "auth" && key == "secret" => about(
                path,
                "a secret does not belong in a file that is committed and copied; set the environment variable JWT_SECRET"
                    .into(),
            ),
            (Fault::Unknown(known), [table @ .., key]) => {
                about(table, format!("unknown key {key:?}{}", suggest::hint(key, known)))
            }
            (_, [section]) if section == "plugins" => {
                format!("{}; each plugin begins with [[plugins]], in double brackets", about(path, self.message()))
            }
            _ => about(path, self.message()),
        };
        ConfigError::File {
            path: document.path.clone(),
            line: document.line(path),
            message,
        }
    }

    fn in_variable(self, path: &[String], variable: &Variable) -> ConfigError {
        let message = match (&self, path) {
            (Fault::Unknown(_), [section, key]) if section == "auth" && key == "secret" => {
                "unknown key; the variable for the secret is JWT_SECRET".into()
            }
            (Fault::Unknown(known), [table @ .., key]) => match suggest::nearest(key, known) {
                // The whole variable, so that it can be copied.
                Some(near) => {
                    let mut meant = variable.path.clone();
                    meant[table.len()] = near.into();
                    format!("unknown key (did you mean {}?)", variable_name(&meant))
                }
                None => format!("unknown key {key:?}{}", suggest::hint(key, known)),
            },
            _ => self.message(),
        };
        ConfigError::Override {
            name: variable.name.clone(),
            message,
        }
    }
}

/// The path as people say it: `plugins.booking.grants[1]`. An element with a proper name goes by it.
fn readable(path: &[String], document: &Document) -> String {
    let mut text = String::new();
    for (index, step) in path.iter().enumerate() {
        let name = [&path[..=index], &["name".to_owned()]].concat();
        if step.parse::<usize>().is_err() {
            let dot = if text.is_empty() { "" } else { "." };
            text += &format!("{dot}{step}");
        } else if let Some(name) = document.text(&name).filter(|name| is_word(name)) {
            text += &format!(".{name}");
        } else {
            text += &format!("[{step}]");
        }
    }
    text
}

fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// serde's word for what was expected, in the words of TOML.
fn wanted(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "true or false",
        "path string" => "a string",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number that is not negative",
        "f64" => "a number",
        // By the name of its type, which is nobody's business.
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn found(actual: Actual) -> String {
    match actual {
        Actual::Bool(flag) => flag.to_string(),
        Actual::Unsigned(number) => format!("the number {number}"),
        Actual::Signed(number) => format!("the number {number}"),
        Actual::Float(number) => format!("the number {number}"),
        // Not its text: it may be a secret that was put in the wrong place.
        Actual::Str(_) => "a string".into(),
        Actual::Seq => "a list".into(),
        Actual::Map => "a table".into(),
        other => other.to_string(),
    }
}
