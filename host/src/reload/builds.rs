//! Plugins that this process builds from their sources while it serves.

use std::collections::HashMap;

use parking_lot::Mutex;

/// How the builds go. A plugin whose file is not there yet is waited for, unless its build failed.
#[derive(Debug, Default)]
pub struct Builds {
    failed: Mutex<HashMap<String, FailedBuild>>,
}

/// A build that made nothing.
#[derive(Debug, Clone)]
pub struct FailedBuild {
    /// Why, in the words of MixLab.
    pub reason: String,
    /// What the compiler has said, as far as it is kept.
    pub words: String,
}

impl Builds {
    /// Notes how the build of a plugin went.
    pub fn ended(&self, plugin: &str, result: Result<(), FailedBuild>) {
        let mut failed = self.failed.lock();
        match result {
            Ok(()) => failed.remove(plugin),
            Err(failure) => failed.insert(plugin.to_owned(), failure),
        };
    }

    /// Why the last build of a plugin failed, if it did.
    pub(crate) fn failure(&self, plugin: &str) -> Option<FailedBuild> {
        self.failed.lock().get(plugin).cloned()
    }
}
