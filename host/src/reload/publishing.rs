//! What everybody sees of the plugins: the registry, their status, and the end of former versions.

use std::sync::Arc;

use super::{Reloader, Status, certificates::Certificates, slot::Slot, status::PluginStatus};
use crate::{
    config,
    registry::{Registry, Served},
};

impl Reloader {
    /// Has events see what serves now.
    pub(super) fn publish(&self) {
        let absent_filters = self.slots.iter().filter_map(Slot::absent_filter);
        let absent_filters = absent_filters.collect();
        let guards = self.slots.iter().filter_map(Slot::guard).collect();
        let served = self.slots.iter().filter_map(Slot::served);
        let registry = Registry::new(served, absent_filters, guards);
        self.targets.registry.store(Arc::new(registry));
        self.published.send_replace(());
    }

    /// Old generations go when their last call has ended, at the latest after the drain time.
    pub(super) fn retire(&self, former: Vec<Arc<Served>>) {
        let drain = self.config.reload.drain;
        for served in former {
            let plugin = Arc::downgrade(&served.plugin);
            tokio::spawn(async move {
                tokio::time::sleep(drain).await;
                if let Some(plugin) = plugin.upgrade() {
                    plugin.retire();
                }
            });
        }
    }

    /// What was counted for plugins and events goes with them.
    pub(super) fn forget_gone(&self) {
        let live = self.slots.iter().map(|slot| {
            let routes = slot.served().map(|served| served.routes.as_slice());
            let events = routes.unwrap_or_default().iter();
            (
                slot.name(),
                events.map(|route| route.contract.event.as_str()).collect(),
            )
        });
        self.targets.metrics.forget_gone(&live.collect());
    }

    /// Shows how all plugins stand.
    pub(super) fn report(&self) {
        let status = |plugin: &config::Plugin| {
            let slot = self.slots.iter().find(|slot| slot.name() == plugin.name);
            slot.map_or_else(|| PluginStatus::disabled(plugin), Slot::status)
        };
        let plugins = self.config.plugins.iter().map(status).collect();
        self.status.store(Arc::new(Status {
            config_error: self.config_error.clone(),
            config_waiting: self.config_waiting.clone(),
            certificate_error: self
                .certificates
                .as_ref()
                .and_then(Certificates::error)
                .cloned(),
            plugins,
        }));
    }
}
