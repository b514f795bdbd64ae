//! What it costs to let an event in: the same echo with and without its checks, in turns.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    configuration::{Configuration, ITS_EVENTS},
    drive::Drive,
    options::{Peer, PluginOptions, ServerOptions},
    programs::{Programs, printed},
    report::Format,
    rows::Rows,
    running::Running,
    scenario::Exchange,
};

const UNIT: &str = "CPU µs per event";

const LIMIT: &str = "config.limit = \"1000000/1s\"";
const SOCKET: &str = "[limits]\nsocket = \"1000000/1s\"";
const ALL: &str = "[limits]\nsocket = \"1000000/1s\"\nuser = \"1000000/1s\"\nip = \"1000000/1s\"";

/// Measure what the checks before a call cost.
#[derive(Args, Debug, Clone)]
pub struct Admission {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    plugins: PluginOptions,
}

/// One way to serve `custom_event`.
struct Variant {
    name: &'static str,
    /// Compared with this one, if with any: what the difference is called.
    without: Option<(&'static str, &'static str)>,
    guest: bool,
    sections: &'static str,
    keys: &'static str,
}

const VARIANTS: [Variant; 6] = [
    shipped("custom-event with its limit", None, "", ""),
    shipped(
        "with a schema too",
        Some(("custom-event with its limit", "the schema")),
        "",
        ITS_EVENTS,
    ),
    shipped(
        "with a limit for connections too",
        Some(("custom-event with its limit", "`limits.socket`")),
        SOCKET,
        "",
    ),
    shipped(
        "with limits for connections, users and addresses too",
        Some((
            "custom-event with its limit",
            "`limits.socket`, `user` and `ip`",
        )),
        ALL,
        "",
    ),
    Variant {
        name: "a plugin without a limit",
        without: None,
        guest: true,
        sections: "",
        keys: "config.event = \"custom_event\"",
    },
    Variant {
        name: "the same with a limit",
        without: Some(("a plugin without a limit", "the event's limit")),
        guest: true,
        sections: "",
        keys: "config = { event = \"custom_event\", limit = \"1000000/1s\" }",
    },
];

const fn shipped(
    name: &'static str,
    without: Option<(&'static str, &'static str)>,
    sections: &'static str,
    keys: &'static str,
) -> Variant {
    Variant {
        name,
        without,
        guest: false,
        sections,
        keys,
    }
}

impl Admission {
    /// Runs it; returns what is to be printed, and how much went wrong.
    pub fn run(
        &self,
        options: &ServerOptions,
        drive: &Drive,
        format: Format,
    ) -> Result<(String, u64)> {
        self.programs.build(&[Peer::Mixlab])?;
        let server = self.programs.server(Peer::Mixlab, &options.on_core())?;
        let minutes = 4.0 * (self.rounds * VARIANTS.len()) as f64 / 60.0;
        eprintln!("about {minutes:.1} minutes");
        let (mut rows, mut faults) = (Rows::default(), 0);
        drive.on_core().run(async {
            for round in 0..self.rounds {
                for turn in 0..VARIANTS.len() {
                    let variant = &VARIANTS[(turn + round) % VARIANTS.len()];
                    eprintln!("round {} of {}: {}", round + 1, self.rounds, variant.name);
                    let (cost, wrong) = self.measure(variant, &server).await?;
                    rows.add(variant.name, UNIT, cost);
                    faults += wrong;
                }
            }
            Ok(())
        })?;
        for variant in &VARIANTS {
            let Some((without, name)) = variant.without else {
                continue;
            };
            let pairs = rows.values(variant.name).iter().zip(rows.values(without));
            let differences: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
            for difference in differences {
                rows.add(&format!("**{name}**"), UNIT, difference);
            }
        }
        let machine = self.programs.machine()?;
        let table = rows.markdown(
            "Admission",
            &format!("admission --rounds {}", self.rounds),
            &machine,
        );
        self.programs.write(&[("admission.md", &table)])?;
        let values = rows.json("admission", &machine);
        Ok((printed(format, table, &values), faults))
    }

    async fn measure(&self, variant: &Variant, server: &ServerOptions) -> Result<(f64, u64)> {
        let mut configuration = Configuration::new()?;
        configuration.add(variant.sections);
        let file = match variant.guest {
            true => self.plugins.named("named")?,
            false => self.plugins.shipped("custom-event")?,
        };
        let keys = match variant.guest {
            true => variant.keys.to_owned(),
            false => format!("{LIMIT}{}", variant.keys),
        };
        configuration.plugin("plugin", &file, &["emit:custom_response"], &keys);
        let running = Running::from_options(&configuration.options(server)?).await?;
        let echo = Exchange {
            sockets: 16,
            in_flight: 32,
            rate: None,
            bytes: 64,
            warm_up: Duration::from_secs(1),
            time: Duration::from_secs(2),
        };
        let report = echo.run(&running.target, false).await;
        let report = running.stop_after(report).await?;
        let cost = report.number("cpu_us_per_message");
        Ok((cost.context("no CPU time in the report")?, report.faults()))
    }
}
