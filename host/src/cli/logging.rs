//! Where the log goes: standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Log, LogFormat};

/// Starts logging. The level is for the host and the plugins; libraries speak up on warnings.
pub fn start(config: &Log) {
    let level = config.level.as_str();
    let filter = EnvFilter::new(format!("warn,mixlab={level},plugin={level}"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
