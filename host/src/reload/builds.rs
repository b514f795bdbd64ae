//! Plugins that this process builds from their sources while it serves.

use std::collections::HashMap;

use parking_lot::Mutex;

/// How the builds go. A plugin whose file is not there yet is waited for, unless its build failed.
#[derive(Debug, Default)]
pub struct Builds {
    failed: Mutex<HashMap<String, String>>,
}

impl Builds {
    /// Notes how the build of a plugin went.
    pub fn ended(&self, plugin: &str, result: Result<(), String>) {
        let mut failed = self.failed.lock();
        match result {
            Ok(()) => failed.remove(plugin),
            Err(reason) => failed.insert(plugin.to_owned(), reason),
        };
    }

    /// Why the last build of a plugin failed, if it did.
    pub(crate) fn failure(&self, plugin: &str) -> Option<String> {
        self.failed.lock().get(plugin).cloned()
    }
}
