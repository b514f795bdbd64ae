//! `mixlab check`: would this configuration serve?

use super::{
    Failure, Global, logging,
    output::{print, say},
};
use crate::{
    config::{self, LogLevel},
    metrics,
    reload::PluginState,
    server,
};

pub fn run(global: &Global) -> Result<(), Failure> {
    let config = global.load_config()?;
    // What is wrong is the result and not a matter for the log.
    let log = config::Log {
        level: LogLevel::Error,
        ..config.log.clone()
    };
    let _log = logging::start(&log, metrics::lost_log_lines())?;
    let status = super::runtime()?.block_on(server::check(&config))?;
    for doubt in config.doubts() {
        say(format_args!("warning: {doubt}"));
    }
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for plugin in &status.plugins {
        match (plugin.state, &plugin.refusal) {
            (PluginState::Disabled, _) => good.push(format!("{}: switched off", plugin.name)),
            (_, Some(reason)) => refused.push(format!("{}: {reason}", plugin.name)),
            _ => good.push(format!(
                "{} {}: {}",
                plugin.name,
                plugin.version.as_deref().unwrap_or_default(),
                plugin.events.join(", ")
            )),
        }
    }
    if refused.is_empty() {
        good.push(format!("{} is good", global.config.display()));
    }
    print(|out| good.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::from(refused.join("\nerror: ")))
}
