//! `mixlab check`: would this configuration serve?

use clap::Args;
use serde::Serialize;

use super::{
    Failure, Format, Global, logging,
    output::{print, say},
    say_error,
};
use crate::{
    config::{self, LogLevel},
    harmless::{in_one_line, indented, listed},
    metrics,
    reload::{PluginState, PluginStatus, Status},
    server,
};

#[derive(Args)]
pub(super) struct Check {
    /// How to print what was found.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// What was found, as JSON.
#[derive(Default, Serialize)]
struct Report<'a> {
    /// Why the configuration is none.
    config_error: Option<&'a str>,
    /// What is allowed, and probably not meant.
    warnings: Vec<String>,
    /// As `plugin list` has them.
    plugins: &'a [PluginStatus],
}

impl Check {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let config = match global.load_config() {
            Ok(config) => config,
            Err(failure) => {
                if self.format == Format::Json {
                    print_json(&Report {
                        config_error: Some(&failure.reason),
                        ..Report::default()
                    })?;
                }
                return Err(failure);
            }
        };
        // What is wrong is the result and not a matter for the log.
        let log = config::Log {
            level: LogLevel::Error,
            ..config.log.clone()
        };
        let _log = logging::start(&log, metrics::lost_log_lines())?;
        let checked = super::runtime()?.block_on(server::check(&config))?;
        let doubts = [config.doubts(), checked.doubts.clone()].concat();
        let refused = checked.refusals();
        let status = checked.status;
        match self.format {
            Format::Json => print_json(&Report {
                config_error: None,
                warnings: doubts,
                plugins: &status.plugins,
            })?,
            Format::Text => print_text(global, &doubts, &status, refused.is_empty())?,
        }
        let Some((last, others)) = refused.split_last() else {
            return Ok(());
        };
        others.iter().for_each(|reason| say_error(reason));
        Err(Failure::from(last))
    }
}

fn print_json(report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(report)?;
    Ok(print(|out| writeln!(out, "{json}"))?)
}

fn print_text(
    global: &Global,
    doubts: &[String],
    status: &Status,
    is_good: bool,
) -> Result<(), Failure> {
    for doubt in doubts {
        say(format_args!("warning: {}", indented(doubt, "    ")));
    }
    print(|out| {
        for plugin in status
            .plugins
            .iter()
            .filter(|plugin| plugin.refusal.is_none())
        {
            if plugin.state == PluginState::Disabled {
                writeln!(out, "{}: switched off", plugin.name)?;
                continue;
            }
            let version = in_one_line(plugin.version.as_deref().unwrap_or_default());
            let events = listed(&plugin.events);
            writeln!(out, "{} {version}: {events}", plugin.name)?;
            if let Some(migration) = &plugin.migration {
                writeln!(out, "    what is stored: {migration}")?;
            } else if let Some(version @ 1..) = plugin.data_version {
                writeln!(out, "    what is stored: data version {version}")?;
            }
        }
        if is_good {
            writeln!(out, "{} is good", global.config.display())?;
        }
        Ok(())
    })?;
    Ok(())
}
