//! What plugins keep with a connection: a JSON text for each.

use std::sync::Arc;

use parking_lot::Mutex;

/// The JSON texts by the names of the plugins. A plugin knows its own only. Like the connection's id,
/// it outlives the sockets that the connection has.
#[derive(Debug, Default)]
pub struct Data(Mutex<Vec<(Arc<str>, Arc<str>)>>);

impl From<Vec<(Arc<str>, Arc<str>)>> for Data {
    fn from(kept: Vec<(Arc<str>, Arc<str>)>) -> Self {
        Self(Mutex::new(kept))
    }
}

impl Data {
    /// What a plugin keeps.
    pub fn get(&self, plugin: &str) -> Option<Arc<str>> {
        let kept = self.0.lock();
        let its = kept.iter().find(|(name, _)| &**name == plugin);
        its.map(|(_, json)| json.clone())
    }

    /// All of it, by the names of the plugins.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.0.lock().clone()
    }

    /// What all texts take, in bytes.
    pub fn size(&self) -> usize {
        let kept = self.0.lock();
        kept.iter().map(|(_, json)| json.len()).sum()
    }

    /// Has a plugin keep this and nothing else.
    pub fn set(&self, plugin: &Arc<str>, json: Arc<str>) {
        let mut kept = self.0.lock();
        match kept.iter_mut().find(|(name, _)| name == plugin) {
            Some((_, former)) => *former = json,
            None => {
                // Most connections have one.
                kept.reserve_exact(1);
                kept.push((plugin.clone(), json));
            }
        }
    }
}
