//! `mixlab check`: would this configuration serve?

use super::{Failure, Global, logging};
use crate::{
    config::{self, LogLevel},
    reload::PluginState,
    server,
};

pub fn run(global: &Global) -> Result<(), Failure> {
    let config = global.load_config()?;
    // What is wrong is the result and not a matter for the log.
    logging::start(&config::Log {
        level: LogLevel::Error,
        ..config.log.clone()
    });
    let status = super::runtime()?.block_on(server::check(&config))?;
    let mut refused = Vec::new();
    for plugin in &status.plugins {
        match (plugin.state, &plugin.refusal) {
            (PluginState::Disabled, _) => println!("{}: switched off", plugin.name),
            (_, Some(reason)) => refused.push(format!("{}: {reason}", plugin.name)),
            _ => println!(
                "{} {}: {}",
                plugin.name,
                plugin.version.as_deref().unwrap_or_default(),
                plugin.events.join(", ")
            ),
        }
    }
    if refused.is_empty() {
        println!("{} is good", global.config.display());
        return Ok(());
    }
    Err(Failure::from(refused.join("\nerror: ")))
}
