//! Plugins that are scripts: `files` reads them, `runtime` is the component that runs all of them, `types`
//! takes the types off TypeScript, `grants` guesses what it may need, and [`Program`] is what comes of it.

mod files;
mod grants;
mod runtime;
mod types;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use files::{Files, Found, is_script};
pub(super) use runtime::Scripts;

/// How much CPU time more than its budget a call of a script has: enough for it to say where it was when it
/// had used that up, also where the engine looks through all of its memory meanwhile.
pub(super) const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(50);

/// A script that can be run: all of its files are JavaScript.
#[derive(Debug)]
pub(crate) struct Program {
    files: Arc<Files>,
    /// By the names of the files; or why one cannot be run.
    scripts: BTreeMap<String, Result<String, String>>,
}

/// What a script's call has come to, in the script's own words. A trap that is no fault of the component.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ScriptFailed(pub String);

impl Program {
    /// The script itself, with its name.
    pub(crate) fn main(&self) -> Result<(&str, &str), &str> {
        self.file(self.files.main())
    }

    /// The grants that it may need, as far as its code shows.
    pub(super) fn may_request(&self) -> Vec<&'static str> {
        grants::named(self.files.texts().values())
    }

    /// The file that an import stands for, with its name.
    pub(crate) fn resolve(&self, importer: &str, specifier: &str) -> Result<(&str, &str), String> {
        let name = self.files.resolve(importer, specifier)?;
        self.file(name).map_err(str::to_owned)
    }

    fn file<'a>(&'a self, name: &'a str) -> Result<(&'a str, &'a str), &'a str> {
        match self.scripts.get(name) {
            Some(Ok(script)) => Ok((name, script)),
            Some(Err(reason)) => Err(reason),
            None => Err("it is not there"),
        }
    }
}
