//! What costs do when something grows: connections, plugins, payloads, subscribers, rooms.

mod cases;
mod chart;

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::cases::{CURVES, Curve};
use crate::{
    drive::Drive,
    figure::{Figure, Spread},
    machine::Machine,
    options::{Peer, PluginOptions, ServerOptions},
    programs::{Programs, printed},
    report::Format,
    running::Running,
};

/// Measure costs that may grow, against optimised servers on a core of their own.
#[derive(Args, Debug, Clone)]
pub struct Curves {
    /// How often every point is measured.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Only this curve, e.g. `fanout`; may be given more than once.
    #[arg(long, value_name = "CURVE")]
    only: Vec<String>,
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    plugins: PluginOptions,
}

/// A curve with what was measured of it.
pub struct Measured {
    curve: &'static Curve,
    /// By field, server and point, one value for each round.
    values: BTreeMap<(&'static str, &'static str, usize), Vec<f64>>,
    faults: u64,
}

impl Curves {
    /// Runs it all; returns what is to be printed, and how much went wrong.
    pub fn run(
        &self,
        options: &ServerOptions,
        drive: &Drive,
        format: Format,
    ) -> Result<(String, u64)> {
        let names = CURVES.map(|curve| curve.name);
        for name in &self.only {
            ensure!(
                names.contains(&name.as_str()),
                "there is no curve {name:?}; there are {}",
                names.join(", ")
            );
        }
        let wanted = CURVES.iter().filter(|curve| {
            self.only.is_empty() || self.only.iter().any(|name| name == curve.name)
        });
        let mut measured: Vec<Measured> = wanted.map(Measured::new).collect();
        self.programs
            .build(&[Peer::Mixlab, Peer::Node, Peer::Native])?;
        let machine = self.programs.machine()?;
        let seconds: f64 = measured.iter().map(|curve| curve.curve.seconds()).sum();
        eprintln!("about {:.0} minutes", seconds * self.rounds as f64 / 60.0);
        drive.on_core().run(async {
            for round in 0..self.rounds {
                for curve in &mut measured {
                    self.measure(curve, round, &options.on_core()).await?;
                }
            }
            Ok(())
        })?;
        let table = self.markdown(&machine, &measured);
        let values = self.json(&machine, &measured);
        self.programs.write(&[
            ("curves.md", &table),
            ("curves.svg", &chart::svg(&measured)),
            ("curves.json", &format!("{values:#}\n")),
        ])?;
        let faults = measured.iter().map(|curve| curve.faults).sum();
        Ok((printed(format, table, &values), faults))
    }

    async fn measure(
        &self,
        measured: &mut Measured,
        round: usize,
        options: &ServerOptions,
    ) -> Result<()> {
        let Curve { name, peers, .. } = measured.curve;
        for &point in measured.curve.points {
            eprintln!("round {} of {}: {name}, {point}", round + 1, self.rounds);
            for turn in 0..peers.len() {
                // Nobody is always the first.
                let peer = peers[(turn + round) % peers.len()];
                let server = self.programs.server(peer, options)?;
                let configuration = measured.curve.configuration(point, &self.plugins)?;
                let server = match &configuration {
                    Some(configuration) => configuration.options(&server)?,
                    None => server,
                };
                let running = Running::from_options(&server).await?;
                let report = measured.curve.run(point, &running).await;
                let report = running.stop_after(report).await;
                let report = report.with_context(|| format!("{name} {point} of {peer}"))?;
                measured.faults += report.faults();
                for figure in measured.curve.figures {
                    let value = report
                        .number(figure.field)
                        .with_context(|| format!("no {} in the report", figure.field))?;
                    let values = measured.values.entry((figure.field, peer.name(), point));
                    values.or_default().push(value);
                }
            }
        }
        Ok(())
    }

    fn markdown(&self, machine: &Machine, measured: &[Measured]) -> String {
        let mut text = format!(
            "# What grows\n\n\
             Made by `mixlab-load curves --rounds {}`; what it means is in ../README.md.\n\n\
             {machine}\n\nA core each for server and load.\n\n![](curves.svg)\n",
            self.rounds
        );
        for curve in measured {
            _ = write!(
                text,
                "\n## {}\n\n| {} | |",
                curve.curve.title, curve.curve.axis
            );
            for peer in curve.curve.peers {
                _ = write!(text, " {peer} |");
            }
            _ = writeln!(
                text,
                "\n|---|---|{}",
                "---|".repeat(curve.curve.peers.len())
            );
            for figure in curve.curve.figures {
                for &point in curve.curve.points {
                    _ = write!(text, "| {point} | {} |", figure.unit);
                    for &peer in curve.curve.peers {
                        let cell = curve.spread(figure, peer, point);
                        let cell = cell.map_or_else(|| "–".to_owned(), |cell| cell.to_string());
                        _ = write!(text, " {cell} |");
                    }
                    text += "\n";
                }
            }
        }
        text
    }

    fn json(&self, machine: &Machine, measured: &[Measured]) -> Value {
        let curves = measured.iter().map(|curve| {
            let values = curve.values.iter().map(|((field, peer, point), values)| {
                json!({ "figure": field, "server": peer, "at": point, "values": values })
            });
            json!({
                "curve": curve.curve.name,
                "axis": curve.curve.axis,
                "faults": curve.faults,
                "points": values.collect::<Vec<_>>(),
            })
        });
        json!({
            "scenario": "curves",
            "machine": machine.to_string(),
            "rounds": self.rounds,
            "curves": curves.collect::<Vec<_>>(),
        })
    }
}

impl Measured {
    fn new(curve: &'static Curve) -> Self {
        Self {
            curve,
            values: BTreeMap::new(),
            faults: 0,
        }
    }

    fn spread(&self, figure: &Figure, peer: Peer, point: usize) -> Option<Spread> {
        let values = self.values.get(&(figure.field, peer.name(), point))?;
        Spread::of(values)
    }
}
