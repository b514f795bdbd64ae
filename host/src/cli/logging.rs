//! Where the log goes: standard error, as text or JSON.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fs::File,
    io::{self, IsTerminal},
    os::fd::AsFd,
    panic::{self, PanicHookInfo},
};

use prometheus::IntCounter;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    config::{Log, LogFormat},
    log_writer::LogWriter,
    recent_log::RecentLog,
};

/// Starts logging, until what it returns is dropped; `lost` counts the lines that could not be
/// written. The level is for the host and the plugins; libraries speak up on warnings.
pub(super) fn start(config: &Log, lost: IntCounter) -> io::Result<LogWriter> {
    start_with(config, lost, None)
}

/// The same, where the last lines are kept for who looks on.
pub(super) fn start_with(
    config: &Log,
    lost: IntCounter,
    recent: Option<RecentLog>,
) -> io::Result<LogWriter> {
    let stderr = io::stderr();
    // Not through `Stderr`: its lock would be held while a write waits.
    let output = File::from(stderr.as_fd().try_clone_to_owned()?);
    let report = |lines| {
        tracing::error!(
            lines,
            "lines of the log were lost: nobody read them, or they could not be written"
        )
    };
    let writer = LogWriter::start("log", output, lost, report)?;
    let level = config.level.as_str();
    // Each client that breaks TLS would have a line of rustls' own.
    let filter = EnvFilter::new(format!("warn,rustls=off,mixlab={level},plugin={level}"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_ansi(stderr.is_terminal())
        // They go to standard error by a macro that panics where that cannot be written.
        .log_internal_errors(false)
        .with_writer(writer.lines());
    match config.format {
        LogFormat::Text => builder.finish().with(recent).init(),
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            builder.finish().with(recent).init();
        }
    }
    panic::set_hook(Box::new(log_panic));
    Ok(writer)
}

/// The standard library's own hook writes to standard error itself, and would wait for its reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("without a message");
    let place = panic.location().map(ToString::to_string);
    let frames = Backtrace::capture();
    let frames = (frames.status() == BacktraceStatus::Captured).then(|| format!("\n{frames}"));
    let frames = frames.unwrap_or_default();
    tracing::error!(place, "the host panicked: {message}{frames}");
}
