//! `mixlab test`: runs the cases that are written beside plugins.

mod junit;
mod select;
mod watched;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::layer::SubscriberExt;

use self::{
    select::{Selected, Unusable},
    watched::Watched,
};
use super::{EXIT_BAD_INPUT, Failure, Global, output::print, waits::Waits};
use crate::{
    config::Config,
    harmless::{in_one_line, indented},
    plugin::Engine,
    server,
    trial::{
        Line, Lines,
        cases::{self, Case},
    },
};

/// Exit code if a case fails.
const EXIT_FAILED: u8 = 1;

/// How often it is looked whether a file has changed.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Test {
    /// Files with cases (`*.test.toml`), or folders with such files; without, those that are beside the
    /// plugins of mixlab.toml.
    files: Vec<PathBuf>,
    /// Run them again whenever something changes that they depend on: a plugin, what it imports, a file with
    /// cases, mixlab.toml; or another file with cases is there.
    #[arg(long)]
    watch: bool,
    /// Write what came of it to this file, as JUnit has it.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What came of a case.
struct Ran {
    file: PathBuf,
    name: String,
    result: Outcome,
    took: Duration,
}

enum Outcome {
    Passed,
    Failed(cases::Failure),
    /// It could not be run.
    Not(String),
}

impl Test {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry()
            .with(lines.clone())
            .with(Waits);
        tracing::subscriber::set_global_default(subscriber)?;
        let mut watched = Watched::default();
        if !self.watch {
            return self.once(global, &lines, &mut watched);
        }
        loop {
            // What changes while they run shows behind it.
            watched.look();
            if let Err(Failure { reason, .. }) = self.once(global, &lines, &mut watched) {
                print(|out| writeln!(out, "{reason}"))?;
            }
            print(|out| writeln!(out, "waiting for changes"))?;
            while !watched.have_changed() {
                sleep(LOOK);
            }
        }
    }

    /// Runs all cases. What they depend on is `watched` before it is read.
    fn once(&self, global: &Global, lines: &Lines, watched: &mut Watched) -> Result<(), Failure> {
        let could_not = |reason: String| Failure {
            code: EXIT_BAD_INPUT,
            reason,
        };
        let given = || [&global.config].into_iter().chain(&self.files).cloned();
        watched.add(given());
        let config = Config::load_if_there(&global.config, global.overrides());
        let config = config.map_err(Failure::bad_input)?;
        let places = || select::places(&config, &self.files);
        watched.add(places());
        let selected = select::select(&config, &self.files).map_err(could_not)?;
        let files = selected.iter().flat_map(|selected| match selected {
            Ok(selected) => &selected.files,
            Err(unusable) => &unusable.files,
        });
        watched.only(given().chain(places()).chain(files.cloned()));
        let ran = run_all(&config, &selected, lines)?;
        if let Some(path) = &self.junit
            && let Err(error) = std::fs::write(path, junit::report(&ran))
        {
            return Err(could_not(format!("{}: {error}", path.display())));
        }
        summary(&ran)
    }
}

fn run_all(
    config: &Config,
    selected: &[Result<Selected, Unusable>],
    lines: &Lines,
) -> Result<Vec<Ran>, Failure> {
    let engine = server::start_engine(&config.runtime)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut ran = Vec::new();
    let mut one = |case: Ran| {
        let printed = print(|out| write_one(out, &case));
        ran.push(case);
        printed
    };
    for selected in selected {
        match selected {
            Ok(selected) => {
                for case in &selected.cases {
                    one(run_one(&runtime, &engine, selected, case, lines))?;
                }
            }
            Err(unusable) => one(not_one(unusable))?,
        }
    }
    Ok(ran)
}

fn run_one(
    runtime: &Runtime,
    engine: &Arc<Engine>,
    selected: &Selected,
    case: &Case,
    lines: &Lines,
) -> Ran {
    let began = Instant::now();
    let config = selected.config_for(case);
    let running = cases::run(config, engine.clone(), &selected.plugin, case, lines);
    let result = match runtime.block_on(running) {
        Ok(None) => Outcome::Passed,
        Ok(Some(failure)) => Outcome::Failed(failure),
        Err(error) => Outcome::Not(error.to_string()),
    };
    Ran {
        file: shown(&case.file),
        name: in_one_line(&format!("{}: {}", selected.plugin, case.name)).into_owned(),
        result,
        took: began.elapsed(),
    }
}

/// A file of which no case can be run is one that is not.
fn not_one(Unusable { file, reason, .. }: &Unusable) -> Ran {
    Ran {
        file: file.clone(),
        name: "all cases".to_owned(),
        result: Outcome::Not(reason.clone()),
        took: Duration::ZERO,
    }
}

fn write_one(out: &mut dyn Write, ran: &Ran) -> io::Result<()> {
    let file = ran.file.to_string_lossy();
    let (file, took) = (in_one_line(&file), ran.took.as_millis());
    match &ran.result {
        Outcome::Passed => writeln!(out, "ok      {file}  {}  ({took} ms)", ran.name),
        Outcome::Failed(failure) => {
            writeln!(out, "FAILED  {file}:{}  {}", failure.line, ran.name)?;
            for line in told(failure).lines() {
                writeln!(out, "  {line}")?;
            }
            Ok(())
        }
        Outcome::Not(reason) => writeln!(
            out,
            "NOT RUN {file}  {}\n  {}",
            ran.name,
            indented(reason, "  ")
        ),
    }
}

/// What differs, and what was logged, for people.
fn told(failure: &cases::Failure) -> String {
    let mut text: String = failure
        .differences
        .iter()
        .map(|difference| format!("{difference}\n"))
        .collect();
    if !failure.log.is_empty() {
        text += "log\n";
    }
    for Line {
        level, text: said, ..
    } in &failure.log
    {
        text += &format!("    {level}  {}\n", indented(said, "        "));
    }
    text
}

fn summary(ran: &[Ran]) -> Result<(), Failure> {
    let count = |is: fn(&Outcome) -> bool| ran.iter().filter(|ran| is(&ran.result)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let not = count(|outcome| matches!(outcome, Outcome::Not(_)));
    let all = ran.len();
    if not > 0 {
        return Err(Failure {
            code: EXIT_BAD_INPUT,
            reason: format!("{not} of {all} cases could not be run"),
        });
    }
    if failed > 0 {
        return Err(Failure {
            code: EXIT_FAILED,
            reason: format!("{failed} of {all} cases failed"),
        });
    }
    let cases = if all == 1 { "case" } else { "cases" };
    print(|out| writeln!(out, "{all} {cases} passed"))?;
    Ok(())
}

/// A path as it is shown: relative to where the command runs, if it is below.
fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let below = path.strip_prefix(here).unwrap_or(path);
    below.strip_prefix(".").unwrap_or(below).to_owned()
}
