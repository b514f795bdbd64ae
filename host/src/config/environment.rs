//! The environment: `MIXLAB_SECTION__KEY` for every key, `JWT_SECRET`, `MIXLAB_API_KEY`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use figment::value::{Dict, Value};

use super::problem::{KeyPath, Problems};
use super::{Overrides, Secret};

const PREFIX: &str = "MIXLAB_";

/// What stands between section and key. A single underscore is part of a key.
const SEPARATOR: &str = "__";

/// Keys outside of all sections. Other variables without a separator are not the configuration's:
/// `MIXLAB_API_KEY` is not, and a shell may hold some for other programs.
const TOP_LEVEL: [&str; 1] = ["MIXLAB_LISTEN"];

/// A variable, or an option of the command line, that sets a key.
pub(super) struct Variable {
    pub name: String,
    pub path: KeyPath,
    /// As it was written; figment makes a value of it.
    pub text: String,
}

/// What the environment and the command line say.
pub(super) struct Environment {
    /// Each wins over those before it.
    set: Vec<Variable>,
    pub jwt_secret: Option<Secret>,
    pub api_key: Option<Secret>,
    all: BTreeMap<OsString, OsString>,
}

impl Environment {
    pub(super) fn read(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        overrides: Overrides,
        problems: &mut Problems,
    ) -> Self {
        // Sorted, so that the first of several problems is always the same.
        let all: BTreeMap<_, _> = variables.into_iter().collect();
        let mut environment = Self {
            set: Vec::new(),
            jwt_secret: None,
            api_key: None,
            all,
        };
        environment.jwt_secret = environment.secret("JWT_SECRET", problems);
        environment.api_key = environment.secret("MIXLAB_API_KEY", problems);
        for (name, text) in &environment.all {
            let Some(name) = name.to_str() else { continue };
            let Some(path) = path_of(name) else { continue };
            let Some(text) = text.to_str() else {
                problems.variable(name, "is not UTF-8 text");
                continue;
            };
            if path[0] == "plugins" {
                problems.variable(name, "plugins are configured in the file only");
                continue;
            }
            environment.set.push(Variable {
                name: name.into(),
                path,
                text: text.into(),
            });
        }
        if let Some(text) = overrides.listen {
            environment.set.push(Variable {
                name: "--listen".into(),
                path: vec!["listen".into()],
                text,
            });
        }
        environment
    }

    /// The values alone, for figment.
    pub(super) fn values(&self) -> Dict {
        let mut values = Dict::new();
        for variable in &self.set {
            let Ok(value) = variable.text.parse::<Value>();
            insert(&mut values, &variable.path, value);
        }
        values
    }

    /// The variable that sets this key, or the list or table that it is in.
    pub(super) fn setting(&self, path: &[String]) -> Option<&Variable> {
        self.set
            .iter()
            .rev()
            .find(|variable| path.starts_with(&variable.path))
    }

    /// A variable that sets something within this table.
    pub(super) fn within(&self, path: &[String]) -> Option<&Variable> {
        self.set
            .iter()
            .find(|variable| variable.path.starts_with(path))
    }

    /// Any variable, for keys that name one.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.all.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    fn secret(&self, name: &str, problems: &mut Problems) -> Option<Secret> {
        match self.get(name)?.to_str() {
            // Set by mistake, e.g. from another variable that is not there.
            Some("") => problems.variable(name, "is set, but empty"),
            Some(text) => return Some(Secret::new(text)),
            None => problems.variable(name, "is not UTF-8 text"),
        }
        None
    }
}

/// The key that a variable sets: `["socket", "ping_interval"]` for `MIXLAB_SOCKET__PING_INTERVAL`.
fn path_of(name: &str) -> Option<KeyPath> {
    let key = name.strip_prefix(PREFIX)?;
    let is_key = key.contains(SEPARATOR) || TOP_LEVEL.contains(&name);
    is_key.then(|| {
        key.to_lowercase()
            .split(SEPARATOR)
            .map(Into::into)
            .collect()
    })
}

/// The variable that sets a key.
pub(super) fn variable_name(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join(SEPARATOR).to_uppercase())
}

fn insert(values: &mut Dict, path: &[String], value: Value) {
    let [step, rest @ ..] = path else { return };
    if rest.is_empty() {
        values.insert(step.clone(), value);
        return;
    }
    let inner = values
        .entry(step.clone())
        .or_insert_with(|| Dict::new().into());
    if !matches!(inner, Value::Dict(..)) {
        *inner = Dict::new().into();
    }
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}
