//! `mixlab replay`: recorded calls, run again.

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use tracing_subscriber::layer::SubscriberExt;

use super::{EXIT_BAD_INPUT, Failure, Format, Global, output::print};
use crate::{
    config::Config,
    grant::{Grant, Grants},
    harmless::{in_one_line, indented, listed},
    server,
    trial::{
        self, Lines,
        replay::{Differing, Record, Replayed, as_case, run},
    },
};

#[derive(Args)]
pub(super) struct Replay {
    /// The record, as `mixlab up --record` writes it.
    record: PathBuf,
    /// The component or the script to run the calls with, instead of that in mixlab.toml.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// The plugin whose calls are run, if the record has those of several and the file does not say it.
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// Tell of the call only that failed with this id.
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
    /// Run nothing: print the call that failed as a case for `mixlab test`.
    #[arg(long, requires = "trace", conflicts_with_all = ["plugin", "of", "format"])]
    as_case: bool,
    /// How to print what differs.
    #[arg(long, default_value = "text")]
    format: Format,
}

fn could_not(error: impl Display) -> Failure {
    Failure {
        code: EXIT_BAD_INPUT,
        reason: error.to_string(),
    }
}

impl Replay {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let record = Record::read(&self.record).map_err(could_not)?;
        if let (true, Some(trace)) = (self.as_case, &self.trace) {
            let case = case(&record, trace).map_err(could_not)?;
            return Ok(print(|out| out.write_all(case.as_bytes()))?);
        }
        if let Some(trace) = &self.trace {
            traced(&record, trace).map_err(could_not)?;
        }
        // What is logged again was logged before.
        let subscriber = tracing_subscriber::registry().with(Lines::default());
        tracing::subscriber::set_global_default(subscriber)?;
        let config = Config::load_if_there(&global.config, global.overrides());
        let config = config.map_err(Failure::bad_input)?;
        let (name, config) = self.select(&record, config).map_err(could_not)?;
        let engine = server::start_engine(&config.runtime).map_err(could_not)?;
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build()?;
        let replayed = runtime.block_on(run(&record, &name, config, engine));
        let mut replayed = replayed.map_err(could_not)?;
        if let Some(trace) = &self.trace {
            let is_it = |differing: &Differing| differing.trace_id.as_ref() == Some(trace);
            replayed.differing.retain(is_it);
        }
        match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(&replayed)?;
                print(|out| writeln!(out, "{json}"))?;
            }
            Format::Text => print(|out| write(out, &record, &replayed))?,
        }
        match replayed.differing.len() {
            0 => Ok(()),
            1 => Err(Failure::from("1 call differs")),
            differing => Err(Failure::from(format!("{differing} calls differ"))),
        }
    }

    /// The name of the plugin whose calls are run, and the configuration with the plugin that runs them.
    fn select(&self, record: &Record, mut config: Config) -> Result<(String, Config), String> {
        let names = record.plugins();
        let configured = |name: &str| config.plugins.iter().find(|it| it.name == name);
        let of_file = self.plugin.as_ref();
        let of_file = of_file.map(|file| trial::plugin_with(&config, file, Grants::default()).name);
        let mut only = names.iter().filter(|_| names.len() == 1);
        let name = match (&self.of, of_file, only.next()) {
            (Some(name), ..) => name.clone(),
            (None, _, Some(only)) => (*only).to_owned(),
            (None, Some(name), None) if names.contains(&*name) => name,
            _ if names.is_empty() => return Err("the record has no calls".to_owned()),
            _ => {
                let names = listed(names);
                return Err(format!(
                    "the record has calls of these plugins: {names}; say which with --of"
                ));
            }
        };
        if !names.contains(&*name) {
            return Err(format!("the record has no calls of the plugin {name:?}"));
        }
        let file = self.plugin.clone();
        let file = file.or_else(|| configured(&name).map(|plugin| plugin.path.clone()));
        let file = file.ok_or_else(|| {
            format!("mixlab.toml has no plugin {name:?}: say with --plugin which file is to run")
        })?;
        let grants = record.last_instance(&name).map(|it| it.grants.as_slice());
        let grants = grants.unwrap_or_default().iter();
        // What was a grant when it was recorded is one still, unless the contract has changed.
        let grants: Grants = grants.filter_map(|it| it.parse::<Grant>().ok()).collect();
        let mut plugin = trial::plugin_with(&config, &file, grants);
        plugin.name.clone_from(&name);
        config.plugins = vec![plugin];
        Ok((name, config))
    }
}

fn traced<'a>(
    record: &'a Record,
    trace: &str,
) -> Result<(&'a crate::record::Call, &'a crate::record::Failed), String> {
    let found = record.traced(trace);
    found.ok_or_else(|| format!("no call in the record has failed with trace {trace}"))
}

fn case(record: &Record, trace: &str) -> Result<String, String> {
    let (call, failed) = traced(record, trace)?;
    as_case(call, failed, &record.instance(call))
}

fn write(out: &mut dyn Write, record: &Record, replayed: &Replayed) -> io::Result<()> {
    for differing in &replayed.differing {
        let Differing {
            call,
            what,
            at,
            trace_id,
            differences,
            unrecorded,
            reason,
        } = differing;
        write!(out, "call {call}  {}", in_one_line(what))?;
        if let Some(at) = at {
            write!(out, "  {}", in_one_line(at))?;
        }
        if let Some(trace_id) = trace_id {
            write!(out, "  trace {}", in_one_line(trace_id))?;
        }
        writeln!(out)?;
        for difference in differences {
            writeln!(out, "  {}", indented(&difference.to_string(), "  "))?;
        }
        if let Some(reason) = reason {
            writeln!(out, "  why\n      {}", indented(reason, "      "))?;
        }
        for what in unrecorded {
            writeln!(out, "  not in the record\n      {}", in_one_line(what))?;
        }
    }
    let Replayed {
        calls,
        after_gaps,
        redacted,
        differing,
    } = replayed;
    writeln!(out, "{calls} calls, {} differ", differing.len())?;
    for (count, what) in [
        (record.lost, "are missing in the record"),
        (
            *after_gaps as u64,
            "ran on an instance of which the record lacks calls: it may have remembered something else",
        ),
        (
            *redacted as u64,
            "had something left out of the record, and ran without it",
        ),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    if record.is_full {
        writeln!(out, "the record was full before the server stopped")?;
    }
    Ok(())
}
