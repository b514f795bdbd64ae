//! The same scenarios against MixLab, Node and native, in turns.

mod cases;
mod chart;
mod figures;
mod machine;
mod markdown;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::{cases::Case, figures::Results, machine::Machine};
use crate::{
    options::{Peer, PluginOptions, ServerOptions},
    peer::{self, load_folder},
    report::{Format, Report},
    running::Running,
    scenario::{Mixed, Reload},
};

/// Compare optimised servers, each on a core of its own.
#[derive(Args, Debug, Clone)]
pub struct Compare {
    /// How often every scenario is run against every server.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only this case, e.g. `echo`; may be given more than once.
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// MixLab's program [default: target/release/mixlab].
    #[arg(long, value_name = "PATH")]
    mixlab: Option<PathBuf>,
    /// The native server's program [default: target/release/mixlab-load-native].
    #[arg(long, value_name = "PATH")]
    native: Option<PathBuf>,
    /// Where compare.md, compare.svg and compare.json go [default: results in this tool's folder].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    plugins: PluginOptions,
    /// Leave out the scenarios that only MixLab can take: reload and mixed.
    #[arg(long)]
    without_own: bool,
}

/// The servers' core and the load's, where the command line does not say others.
pub const SERVER_CORE: usize = 0;
/// See [`SERVER_CORE`].
pub const LOAD_CORE: usize = 1;

/// Those that are compared.
const PEERS: [Peer; 3] = [Peer::Mixlab, Peer::Node, Peer::Native];

impl Compare {
    /// Runs it all; returns what is to be printed, and how much went wrong.
    pub async fn run(&self, options: &ServerOptions, format: Format) -> Result<(String, u64)> {
        ensure!(
            options.attach.is_none() && options.server.is_none(),
            "the servers to compare are given with --mixlab and --native"
        );
        let cases = self.cases()?;
        // A mistake should show before the first round.
        let servers: Vec<ServerOptions> = PEERS
            .into_iter()
            .map(|peer| self.server(peer, options))
            .collect::<Result<_>>()?;
        let mut results: Vec<Results> = cases.into_iter().map(Results::new).collect();
        for round in 0..self.rounds {
            for result in &mut results {
                eprintln!(
                    "round {} of {}: {}",
                    round + 1,
                    self.rounds,
                    result.case.title
                );
                for turn in 0..servers.len() {
                    // Nobody is always the first.
                    let server = &servers[(turn + round) % servers.len()];
                    let running = Running::from_options(server).await?;
                    let report = result.case.run(&running.target).await;
                    let report = running.stop_after(report).await;
                    let what = || format!("{} of {}", result.case.name, server.peer);
                    result.add(server.peer, &report.with_context(what)?)?;
                }
            }
        }
        let own = self.own(&servers[0]).await?;
        let text = self.write(&servers[0], &results, &own, format)?;
        let faults = results.iter().flat_map(|result| result.faults.values());
        let own_faults = own.iter().map(Report::faults);
        Ok((text, faults.sum::<u64>() + own_faults.sum::<u64>()))
    }

    fn cases(&self) -> Result<Vec<Case>> {
        let mut cases = cases::all();
        for name in &self.only {
            if !cases.iter().any(|case| case.name == name) {
                let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
                bail!("there is no case {name:?}; there are {}", names.join(", "));
            }
        }
        cases.retain(|case| self.only.is_empty() || self.only.iter().any(|name| name == case.name));
        Ok(cases)
    }

    /// Optimised programs only: the figures of others mean nothing.
    fn server(&self, peer: Peer, options: &ServerOptions) -> Result<ServerOptions> {
        let program = |given: &Option<PathBuf>, name: &str| {
            let release = || peer::root().join("target/release").join(name);
            let program = given.clone().unwrap_or_else(release);
            ensure!(
                program.is_file(),
                "there is no {}: cargo build --release -p {name}",
                program.display()
            );
            Ok(program)
        };
        Ok(ServerOptions {
            peer,
            server: match peer {
                Peer::Mixlab => Some(program(&self.mixlab, "mixlab")?),
                Peer::Native => Some(program(&self.native, "mixlab-load-native")?),
                Peer::Node => None,
            },
            server_core: options.server_core.or(Some(SERVER_CORE)),
            ..options.clone()
        })
    }

    /// What only MixLab can do, once.
    async fn own(&self, mixlab: &ServerOptions) -> Result<Vec<Report>> {
        if self.without_own {
            return Ok(Vec::new());
        }
        eprintln!("reload and mixed");
        Ok(vec![
            Reload::standard(&self.plugins).run(mixlab).await?,
            Mixed::standard(&self.plugins).run(mixlab).await?,
        ])
    }

    fn write(
        &self,
        mixlab: &ServerOptions,
        results: &[Results],
        own: &[Report],
        format: Format,
    ) -> Result<String> {
        let folder = match &self.output {
            Some(folder) => folder.clone(),
            None => load_folder().join("results"),
        };
        fs::create_dir_all(&folder)?;
        let machine = Machine::this(mixlab.server.as_deref().context("it was checked")?);
        let table = markdown::text(&machine, self.rounds, results, own);
        let values = json(self.rounds, results, own);
        fs::write(folder.join("compare.md"), &table)?;
        fs::write(folder.join("compare.svg"), chart::svg(results))?;
        fs::write(folder.join("compare.json"), format!("{values:#}\n"))?;
        eprintln!("written to {}", folder.display());
        Ok(match format {
            Format::Text => table,
            Format::Json => values.to_string(),
        })
    }
}

/// Every value of every round.
fn json(rounds: usize, results: &[Results], own: &[Report]) -> Value {
    let cases = results.iter().map(|result| {
        let figures = [&result.case.figure].into_iter().chain(result.case.more);
        let figures = figures.map(|figure| {
            let values = PEERS.map(|peer| (peer.to_string(), result.values(figure, peer).into()));
            (
                figure.field.to_owned(),
                Value::Object(values.into_iter().collect()),
            )
        });
        json!({
            "case": result.case.name,
            "figures": figures.collect::<serde_json::Map<_, _>>(),
            "faults": result.faults,
        })
    });
    json!({
        "scenario": "compare",
        "rounds": rounds,
        "cases": cases.collect::<Vec<_>>(),
        "mixlab": own.iter().map(Report::to_value).collect::<Vec<_>>(),
    })
}
