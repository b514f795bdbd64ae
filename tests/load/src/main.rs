//! Loads a Socket.IO server over real sockets: what a message costs, and whether anything gets
//! lost when a plugin is replaced under load.
//!
//! A scenario ([`scenario`]) runs against a [`target`]: a server that is started here as a process
//! of its own ([`peer`], [`server`]), or one that runs already. Its clients ([`client`]) write
//! their packets by hand, to be cheaper than any server.

mod admission;
mod asking;
mod backend;
mod build;
mod client;
mod cluster;
mod compare;
mod configuration;
mod conversation;
mod cores;
mod crowd;
mod curves;
mod drive;
#[cfg(test)]
mod fake;
mod faults;
mod figure;
mod http;
mod languages;
mod latency;
mod machine;
mod meter;
mod options;
mod outstanding;
mod pacer;
mod packet;
mod peer;
mod placements;
mod polling;
mod procfs;
mod programs;
mod relay;
mod report;
mod rows;
mod running;
mod sandbox;
mod scenario;
mod server;
mod start;
mod store;
mod subscriber;
mod svg;
mod swapper;
mod talk;
mod target;
mod token;
mod transport;
mod usage;
mod versions;
mod websocket;

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::{
    admission::Admission,
    cluster::Cluster,
    compare::Compare,
    curves::Curves,
    drive::Drive,
    languages::Languages,
    options::{ServerOptions, duration},
    relay::Relay,
    report::{Format, Report},
    running::Running,
    scenario::{Connect, Exchange, Fanout, Idle, Mixed, Reload},
    start::Start,
    store::Store,
};

/// Something happened that must not.
const EXIT_FAULTS: u8 = 1;

/// The test itself did not work.
const EXIT_FAILED: u8 = 2;

/// Loads a Socket.IO server on this machine, checks every answer, and says what it costs.
#[derive(Parser)]
#[command(name = "mixlab-load", version)]
struct Cli {
    #[command(flatten)]
    server: ServerOptions,
    /// How the result is printed. With `json` it is the last line of stdout.
    #[arg(long, global = true, default_value = "text")]
    format: Format,
    /// The core that this tool runs on, with one thread.
    #[arg(long, global = true, value_name = "N")]
    load_core: Option<usize>,
    /// Threads of this tool where it has no core of its own.
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
    /// When to give up.
    #[arg(long, global = true, default_value = "30m", value_parser = duration)]
    max_time: Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replace a plugin again and again under load, and look for anything lost.
    Reload(Reload),
    /// Connect many users.
    Connect(Connect),
    /// Send custom_event and await custom_response.
    Echo(Exchange),
    /// Send custom_event and await custom_response and the ack.
    Ack(Exchange),
    /// Push payment updates to many subscribers over HTTP.
    Fanout(Fanout),
    /// Hold connections that do nothing.
    Idle(Idle),
    /// Everything at once, among a plugin that loops and one that is replaced.
    Mixed(Mixed),
    /// Let Redis and the servers of a cluster fail, and look for anything lost.
    Cluster(Cluster),
    /// Compare MixLab with Node's server and with a native one.
    Compare(Compare),
    /// Measure what costs do when something grows.
    Curves(Curves),
    /// Measure starts, reloads and the memory of plugins.
    Start(Start),
    /// Measure what the checks before a call cost.
    Admission(Admission),
    /// Measure what it costs to remember.
    Store(Store),
    /// Measure what an event costs in each language, and what idle scripts cost.
    Languages(Languages),
    /// Measure what it takes from one server of a cluster to the next.
    Relay(Relay),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(faults) => {
            eprintln!("{faults} faults");
            ExitCode::from(EXIT_FAULTS)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs the command; returns how many faults it found.
fn run(cli: &Cli) -> Result<u64> {
    cores::allow_many_files()?;
    let drive = Drive {
        core: cli.load_core,
        threads: cli.threads,
        max_time: cli.max_time,
    };
    let study = match &cli.command {
        Command::Compare(compare) => Some(compare.run(&cli.server, &drive, cli.format)?),
        Command::Curves(curves) => Some(curves.run(&cli.server, &drive, cli.format)?),
        Command::Start(start) => Some((start.run(&cli.server, &drive, cli.format)?, 0)),
        Command::Admission(admission) => Some(admission.run(&cli.server, &drive, cli.format)?),
        Command::Store(store) => Some(store.run(&cli.server, &drive, cli.format)?),
        Command::Languages(languages) => Some(languages.run(&cli.server, &drive, cli.format)?),
        Command::Relay(relay) => Some(relay.run(&cli.server, &drive, cli.format)?),
        _ => None,
    };
    if let Some((result, faults)) = study {
        print(&result)?;
        return Ok(faults);
    }
    let report = drive.run(perform(cli))?;
    print(&report.text(cli.format))?;
    Ok(report.faults())
}

async fn perform(cli: &Cli) -> Result<Report> {
    match &cli.command {
        Command::Reload(reload) => reload.run(&cli.server).await,
        Command::Mixed(mixed) => mixed.run(&cli.server).await,
        Command::Cluster(cluster) => cluster.run(&cli.server).await,
        command => against_target(command, &cli.server).await,
    }
}

/// Writes the result to stdout, where somebody may have stopped reading.
fn print(result: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{result}")
}

/// Runs a scenario that any server can take.
async fn against_target(command: &Command, options: &ServerOptions) -> Result<Report> {
    let running = Running::from_options(options).await?;
    let target = &running.target;
    let report = match command {
        Command::Connect(connect) => connect.run(target).await,
        Command::Echo(exchange) => exchange.run(target, false).await,
        Command::Ack(exchange) => exchange.run(target, true).await,
        Command::Fanout(fanout) => fanout.run(target).await,
        Command::Idle(idle) => idle.run(target).await,
        Command::Reload(_)
        | Command::Mixed(_)
        | Command::Cluster(_)
        | Command::Compare(_)
        | Command::Curves(_)
        | Command::Start(_)
        | Command::Admission(_)
        | Command::Store(_)
        | Command::Languages(_)
        | Command::Relay(_) => {
            bail!("it starts servers of its own")
        }
    };
    running.stop_after(report).await
}
