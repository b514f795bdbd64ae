//! The same scenarios against MixLab, Node and native, in turns.

mod aims;
mod cases;
mod chart;
mod figures;
mod markdown;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::{cases::Case, figures::Results};
use crate::{
    drive::Drive,
    machine::Machine,
    options::{Peer, PluginOptions, ServerOptions},
    programs::{Programs, printed},
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
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    plugins: PluginOptions,
    /// Leave out the rounds in which servers and load share all cores.
    #[arg(long)]
    without_unpinned: bool,
    /// Leave out the scenarios that only MixLab can take: reload and mixed.
    #[arg(long)]
    without_own: bool,
}

/// Those that are compared on one core, and those that can use more.
const PINNED: [Peer; 4] = [Peer::Mixlab, Peer::MixlabPlain, Peer::Node, Peer::Native];
const PINNED_WITH_BEFORE: [Peer; 5] = [
    Peer::Mixlab,
    Peer::MixlabPlain,
    Peer::Before,
    Peer::Node,
    Peer::Native,
];
const UNPINNED: [Peer; 4] = [Peer::Mixlab, Peer::Node, Peer::NodeCluster, Peer::Native];

/// About how long the scenarios take that only MixLab can take.
const OWN_SECONDS: f64 = 150.0;

/// All that was measured.
pub struct Comparison {
    rounds: usize,
    pinned: Vec<Results>,
    unpinned: Vec<Results>,
    own: Vec<Report>,
}

impl Compare {
    /// Runs it all; returns what is to be printed, and how much went wrong.
    pub fn run(
        &self,
        options: &ServerOptions,
        drive: &Drive,
        format: Format,
    ) -> Result<(String, u64)> {
        ensure!(
            options.attach.is_none() && options.server.is_none(),
            "the servers to compare are given with --mixlab and --native"
        );
        let results = |cases: Vec<Case>, peers: &'static [Peer]| -> Vec<Results> {
            let cases = cases.into_iter().filter(|case| self.is_wanted(case));
            cases.map(|case| Results::new(case, peers)).collect()
        };
        self.check_names()?;
        let mut comparison = Comparison {
            rounds: self.rounds,
            pinned: results(cases::pinned(), self.pinned()),
            unpinned: results(cases::unpinned(), &UNPINNED),
            own: Vec::new(),
        };
        if self.without_unpinned {
            comparison.unpinned.clear();
        }
        let pinned = options.on_core();
        let unpinned = ServerOptions {
            server_core: None,
            ..options.clone()
        };
        // A mistake should show before the first round.
        self.programs.build(&UNPINNED)?;
        let mixlab = self.programs.server(Peer::Mixlab, &pinned)?;
        for peer in self.pinned() {
            self.programs.server(*peer, &pinned)?;
        }
        if !self.without_own {
            self.plugins.stamped()?;
        }
        eprintln!("about {:.0} minutes", self.seconds(&comparison) / 60.0);

        let on_core = drive.on_core();
        on_core.run(self.rounds(&mut comparison.pinned, &pinned))?;
        let anywhere = Drive {
            core: None,
            ..*drive
        };
        anywhere.run(self.rounds(&mut comparison.unpinned, &unpinned))?;
        if !self.without_own {
            comparison.own = on_core.run(self.own(&mixlab))?;
        }
        let text = self.write(&comparison, format)?;
        Ok((text, comparison.faults()))
    }

    /// Runs every case against every server, again and again.
    async fn rounds(&self, results: &mut [Results], options: &ServerOptions) -> Result<()> {
        for round in 0..self.rounds {
            for result in &mut *results {
                let title = result.case.title;
                eprintln!("round {} of {}: {title}", round + 1, self.rounds);
                for turn in 0..result.peers.len() {
                    // Nobody is always the first.
                    let peer = result.peers[(turn + round) % result.peers.len()];
                    let server = ServerOptions {
                        recovery: matches!(peer, Peer::Mixlab | Peer::Before | Peer::Node),
                        ..self.programs.server(peer, options)?
                    };
                    let mut report = measure(&result.case, &server).await;
                    if let (Err(error), true) = (&report, peer != Peer::Mixlab) {
                        // A comparison should not end with a bad moment of somebody else's server.
                        eprintln!("{peer} is tried again: {error:#}");
                        report = measure(&result.case, &server).await;
                    }
                    let what = || format!("{} of {peer}", result.case.name);
                    result.add(peer, &report.with_context(what)?)?;
                }
            }
        }
        Ok(())
    }

    fn pinned(&self) -> &'static [Peer] {
        match self.programs.has_before() {
            true => &PINNED_WITH_BEFORE,
            false => &PINNED,
        }
    }

    fn check_names(&self) -> Result<()> {
        let names: Vec<&str> = cases::pinned().iter().map(|case| case.name).collect();
        for name in &self.only {
            if !names.contains(&name.as_str()) {
                bail!("there is no case {name:?}; there are {}", names.join(", "));
            }
        }
        Ok(())
    }

    fn is_wanted(&self, case: &Case) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == case.name)
    }

    fn seconds(&self, comparison: &Comparison) -> f64 {
        let results = comparison.pinned.iter().chain(&comparison.unpinned);
        let round: f64 = results
            .map(|result| result.case.seconds * result.peers.len() as f64)
            .sum();
        let own = if self.without_own { 0.0 } else { OWN_SECONDS };
        round * self.rounds as f64 + own
    }

    /// What only MixLab can do, once.
    async fn own(&self, mixlab: &ServerOptions) -> Result<Vec<Report>> {
        eprintln!("reload and mixed");
        Ok(vec![
            Reload::standard(&self.plugins).run(mixlab).await?,
            Mixed::standard(&self.plugins).run(mixlab).await?,
        ])
    }

    fn write(&self, comparison: &Comparison, format: Format) -> Result<String> {
        let machine = self.programs.machine()?;
        let table = markdown::text(&machine, comparison);
        let values = comparison.json(&machine);
        let (pinned, unpinned) = (
            chart::svg(&comparison.pinned),
            chart::svg(&comparison.unpinned),
        );
        let json = format!("{values:#}\n");
        let mut files = vec![
            ("compare.md", table.as_str()),
            ("compare.svg", &pinned),
            ("compare.json", &json),
        ];
        if !comparison.unpinned.is_empty() {
            files.push(("compare-unpinned.svg", &unpinned));
        }
        self.programs.write(&files)?;
        Ok(printed(format, table, &values))
    }
}

/// One run against a server of its own.
async fn measure(case: &Case, server: &ServerOptions) -> Result<Report> {
    let running = Running::from_options(server).await?;
    let report = case.run(&running.target).await;
    running.stop_after(report).await
}

impl Comparison {
    fn faults(&self) -> u64 {
        let results = self.pinned.iter().chain(&self.unpinned);
        let faults = results.flat_map(|result| result.faults.values());
        faults.sum::<u64>() + self.own.iter().map(Report::faults).sum::<u64>()
    }

    /// Every value of every round.
    fn json(&self, machine: &Machine) -> Value {
        let cases = |results: &[Results]| -> Value {
            let cases = results.iter().map(|result| {
                let figures = result.case.figures().map(|figure| {
                    let values = result.peers.iter();
                    let values =
                        values.map(|peer| (peer.to_string(), result.values(figure, *peer).into()));
                    (figure.field.to_owned(), Value::Object(values.collect()))
                });
                let aims = aims::of(result.case.name)
                    .filter_map(|aim| aim.judge(result))
                    .map(|verdict| {
                        json!({
                            "aim": verdict.aim,
                            "measured": verdict.measured.median,
                            "met": verdict.is_met(),
                        })
                    });
                json!({
                    "case": result.case.name,
                    "figures": figures.collect::<serde_json::Map<_, _>>(),
                    "faults": result.faults,
                    "aims": aims.collect::<Vec<_>>(),
                })
            });
            cases.collect()
        };
        json!({
            "scenario": "compare",
            "machine": machine.to_string(),
            "rounds": self.rounds,
            "pinned": cases(&self.pinned),
            "unpinned": cases(&self.unpinned),
            "mixlab": self.own.iter().map(Report::to_value).collect::<Vec<_>>(),
        })
    }
}
