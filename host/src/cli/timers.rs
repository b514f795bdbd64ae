//! `mixlab timers`: what plugins are called for by the clock.

use std::io::{self, Write};

use clap::Subcommand;
use serde_json::Value;

use super::{Failure, Format, Global, control::Control, output::print};
use crate::{clock, harmless::in_one_line};

#[derive(Subcommand)]
pub(super) enum Timers {
    /// List the timers of the running server's plugins: when they are due, and how often they have failed.
    List {
        /// How to print them.
        #[arg(long, default_value = "text")]
        format: Format,
    },
}

impl Timers {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let Self::List { format } = self;
        let listed = Control::find(global)?.get("/api/v1/timers")?;
        match format {
            Format::Json => print(|out| writeln!(out, "{listed:#}"))?,
            Format::Text => print(|out| write_timers(&listed, out))?,
        }
        Ok(())
    }
}

fn write_timers(listed: &Value, out: &mut dyn Write) -> io::Result<()> {
    let timers = listed["timers"].as_array();
    let Some(timers) = timers.filter(|timers| !timers.is_empty()) else {
        return writeln!(out, "no timers");
    };
    let text = |timer: &Value, key: &str| {
        in_one_line(timer[key].as_str().unwrap_or_default()).into_owned()
    };
    let width = |key: &str| {
        timers
            .iter()
            .map(|timer| text(timer, key).len())
            .max()
            .unwrap_or(0)
    };
    let (plugins, names) = (width("plugin"), width("name"));
    for timer in timers {
        let due = timer["at"].as_u64().and_then(clock::text);
        let due = due.unwrap_or_else(|| "never".to_owned());
        let again = match (timer["rule"].as_str(), timer["every"].as_u64()) {
            (Some(rule), _) => format!("  {rule}"),
            (None, Some(every)) => format!("  every {every} ms"),
            (None, None) => String::new(),
        };
        let failed = match (timer["failures"].as_u64(), timer["given_up"].as_bool()) {
            (_, Some(true)) => "  given up".to_owned(),
            (Some(failures @ 1..), _) => format!("  failed {failures} times"),
            _ => String::new(),
        };
        let (plugin, name) = (text(timer, "plugin"), text(timer, "name"));
        writeln!(
            out,
            "{plugin:plugins$}  {name:names$}  {due}{again}{failed}"
        )?;
    }
    Ok(())
}
