//! What was logged, line by line.

use std::{
    fmt::{self, Write},
    mem,
    sync::Arc,
};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// The target of what plugins log themselves.
const OF_PLUGINS: &str = "plugin";

/// Keeps what is logged until somebody takes it.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Line>>>);

/// A line of the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// E.g. `info`.
    pub level: &'static str,
    /// What it says.
    pub text: String,
    /// Whether it is a plugin's own.
    #[serde(skip)]
    pub is_of_plugin: bool,
}

impl Lines {
    /// What was logged since this was called last.
    pub(crate) fn take(&self) -> Vec<Line> {
        mem::take(&mut self.0.lock())
    }

    /// What the host has to say of what went wrong.
    pub(crate) fn failures(&self) -> Vec<Value> {
        let lines = self.0.lock();
        let of_host = lines.iter().filter(|line| !line.is_of_plugin);
        of_host.map(|line| line.text.clone().into()).collect()
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let is_of_plugin = metadata.target() == OF_PLUGINS;
        let is_wanted = is_of_plugin && *metadata.level() <= Level::DEBUG
            || metadata.target().starts_with("mixlab") && *metadata.level() <= Level::WARN;
        if !is_wanted {
            return;
        }
        let mut text = Text {
            message: String::new(),
            fields: String::new(),
            is_of_plugin,
        };
        event.record(&mut text);
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let line = Line {
            level,
            text: text.message + &text.fields,
            is_of_plugin,
        };
        self.0.lock().push(line);
    }
}

/// What a line says, and behind it what it says it about.
struct Text {
    message: String,
    fields: String,
    is_of_plugin: bool,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // Whose it is, the plugin has no need to be told.
            _ if self.is_of_plugin => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
