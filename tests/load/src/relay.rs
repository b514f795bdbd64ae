//! What it takes from one server to the next: two of one cluster around a Redis, one that is pushed to and
//! one that has the clients, beside Node's with its adapters.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    cluster::Redis,
    drive::Drive,
    options::{Peer, ServerOptions},
    programs::{Programs, printed},
    report::{Format, Report},
    rows::Rows,
    running::{Running, Secrets},
    scenario::Fanout,
};

/// Measure what it takes from one server to the next.
#[derive(Args, Debug, Clone)]
pub struct Relay {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    programs: Programs,
}

/// What is compared: its name, the kind of server, and the adapter of Node's.
const PEERS: [(&str, Peer, &str); 3] = [
    ("mixlab", Peer::Mixlab, ""),
    ("node, streams adapter", Peer::Node, "streams"),
    ("node, classic adapter", Peer::Node, "classic"),
];

/// One pace of pushes.
struct Pace {
    name: &'static str,
    subscribers: usize,
    pushes: u64,
    at_once: u64,
    every: Duration,
}

const PACES: [Pace; 4] = [
    Pace {
        name: "200 a second to one client",
        subscribers: 1,
        pushes: 600,
        at_once: 1,
        every: Duration::from_millis(5),
    },
    Pace {
        name: "2,000 a second to one client",
        subscribers: 1,
        pushes: 4000,
        at_once: 4,
        every: Duration::from_millis(2),
    },
    Pace {
        name: "10,000 a second to one client, or as many as are answered",
        subscribers: 1,
        pushes: 20_000,
        at_once: 20,
        every: Duration::from_millis(2),
    },
    Pace {
        name: "100 a second to 200 clients",
        subscribers: 200,
        pushes: 200,
        at_once: 1,
        every: Duration::from_millis(10),
    },
];

impl Relay {
    /// Runs it; returns what is to be printed, and how much went wrong.
    pub fn run(
        &self,
        options: &ServerOptions,
        drive: &Drive,
        format: Format,
    ) -> Result<(String, u64)> {
        self.programs.build(&[Peer::Mixlab, Peer::Node])?;
        let (mut rows, mut faults) = (Rows::default(), 0);
        drive.run(async {
            for round in 0..self.rounds {
                eprintln!("round {} of {}", round + 1, self.rounds);
                for pace in &PACES {
                    for turn in 0..PEERS.len() {
                        // Nobody is always the first.
                        let peer = PEERS[(turn + round) % PEERS.len()];
                        let report = self.measure(pace, peer, options).await;
                        let report =
                            report.with_context(|| format!("{}, {}", peer.0, pace.name))?;
                        faults += report.faults();
                        add(&mut rows, pace.name, peer.0, &report);
                    }
                }
            }
            Ok(())
        })?;
        let machine = self.programs.machine()?;
        let command = format!("relay --rounds {}", self.rounds);
        let table = rows.markdown("From one server to the next", &command, &machine);
        self.programs.write(&[("relay.md", &table)])?;
        let values = rows.json("relay", &machine);
        Ok((printed(format, table, &values), faults))
    }

    async fn measure(
        &self,
        pace: &Pace,
        (_, peer, adapter): (&str, Peer, &str),
        options: &ServerOptions,
    ) -> Result<Report> {
        let redis = Redis::start().await?;
        let secrets = Secrets::new()?;
        let server = ServerOptions {
            recovery: true,
            ..self.programs.server(peer, options)?
        };
        let env = [
            ("MIXLAB_CLUSTER__URL", redis.url()),
            ("REDIS_URL", redis.url()),
            ("ADAPTER", adapter.to_owned()),
        ];
        let start = || Running::start_one_of(&server, &secrets, &env);
        let (pushed, listening) = (start().await?, start().await?);
        let fanout = Fanout {
            subscribers: pace.subscribers,
            pushes: pace.pushes,
            at_once: pace.at_once,
            every: pace.every,
            bytes: 64,
        };
        let report = fanout.run_between(&pushed.target, &listening.target).await;
        let report = listening.stop_after(report).await;
        pushed.stop_after(report).await
    }
}

fn add(rows: &mut Rows, pace: &str, peer: &str, report: &Report) {
    for (field, unit) in [
        ("p50_us", "µs, median latency"),
        ("p99_us", "µs, 99th percentile"),
        ("cpu_us_per_message", "CPU µs of both servers for each copy"),
        ("per_second", "copies a second"),
    ] {
        if let Some(value) = report.number(field) {
            rows.add(&format!("{pace}: {peer}"), unit, value);
        }
    }
}
