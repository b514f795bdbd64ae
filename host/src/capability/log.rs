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
        let trace_id = self.context.trace_id().map(tracing::field::display);
        let level = match level {
            log::Level::Debug => {
                tracing::debug!(target: "plugin", plugin, socket, trace_id, "{message}");
                "debug"
            }
            log::Level::Info => {
                tracing::info!(target: "plugin", plugin, socket, trace_id, "{message}");
                "info"
            }
            log::Level::Warn => {
                tracing::warn!(target: "plugin", plugin, socket, trace_id, "{message}");
                "warn"
            }
            log::Level::Error => {
                tracing::error!(target: "plugin", plugin, socket, trace_id, "{message}");
                "error"
            }
        };
        // A call that fails shows them again, whatever level is written.
        self.output.logged(level, message);
        Ok(())
    }
}
