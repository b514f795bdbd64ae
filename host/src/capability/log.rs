//! `mixlab:plugin/log`: lines in the host's log, under the plugin's name.

use super::State;
use crate::guest::log;

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.meter.host_call(message.len())?;
        self.meter.log(message.len())?;
        let plugin = &*self.plugin;
        let socket = self
            .connection
            .as_ref()
            .map(|connection| connection.id.as_str());
        let level = match level {
            log::Level::Debug => {
                tracing::debug!(target: "plugin", plugin, socket, "{message}");
                "debug"
            }
            log::Level::Info => {
                tracing::info!(target: "plugin", plugin, socket, "{message}");
                "info"
            }
            log::Level::Warn => {
                tracing::warn!(target: "plugin", plugin, socket, "{message}");
                "warn"
            }
            log::Level::Error => {
                tracing::error!(target: "plugin", plugin, socket, "{message}");
                "error"
            }
        };
        // A call that fails shows them again, whatever level is written.
        self.output.logged(level, message);
        Ok(())
    }
}
