//! Which plugins there are to be, by `mixlab.toml`.

use super::{Reloader, slot::Slot};
use crate::audit::Entry;

/// How the slots changed with `mixlab.toml`.
#[derive(Default)]
pub(super) struct Matched {
    /// They stand in another order.
    pub reordered: bool,
    /// One that served is not there any more.
    pub switched_off: bool,
    /// Some plugin has other grants, or has to filter or to guard what it had not to.
    pub regranted: bool,
}

impl Reloader {
    /// One slot for each plugin that is switched on, in the order of the file.
    pub(super) fn match_slots(&mut self) -> Matched {
        let mut former = std::mem::take(&mut self.slots);
        let names = |slots: &[Slot]| -> Vec<String> {
            slots.iter().map(|slot| slot.name().to_owned()).collect()
        };
        let former_order = names(&former);
        let mut regranted = false;
        for plugin in self.config.plugins.iter().filter(|plugin| plugin.enabled) {
            let same = former.iter().position(|slot| slot.name() == plugin.name);
            let slot = match same {
                Some(index) => {
                    let slot = former.remove(index);
                    regranted |= *slot.grants() != plugin.grants
                        || slot.filter() != plugin.filter
                        || slot.guards() != plugin.guards;
                    slot.with_spec(plugin.clone())
                }
                None => {
                    let generation = self.generations.remove(&plugin.name);
                    Slot::new(plugin.clone(), generation.unwrap_or_default())
                }
            };
            self.slots.push(slot);
        }
        for slot in &former {
            self.generations
                .insert(slot.name().to_owned(), slot.generation());
            tracing::info!(plugin = slot.name(), "the plugin was switched off");
            let plugin = slot.name();
            self.targets.audit.write(|| Entry::PluginOff { plugin });
        }
        let retired: Vec<_> = former
            .iter()
            .filter_map(|slot| slot.served().cloned())
            .collect();
        let switched_off = !retired.is_empty();
        self.retire(retired);
        Matched {
            reordered: names(&self.slots) != former_order,
            switched_off,
            regranted,
        }
    }
}
