//! A plugin is replaced again and again while every socket goes on asking it: no connection may
//! end, no answer may be missing, and each must come from a version that was in service.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::{task::JoinSet, time::sleep};

use super::sockets;
use crate::{
    asking::Asking,
    crowd,
    meter::Meter,
    options::{PluginOptions, ServerOptions, defaults, duration},
    procfs,
    report::Report,
    sandbox::Sandbox,
    swapper::Swapper,
    usage::{PER_MESSAGE, Stopwatch, report_memory},
};

/// Replace a plugin under load, and look for anything lost.
#[derive(Args, Debug, Clone)]
pub struct Reload {
    /// Sockets that ask the plugin all the time.
    #[arg(long, default_value = "1000", value_parser = sockets())]
    sockets: usize,
    /// Versions that are put in place.
    #[arg(long, default_value_t = 50)]
    swaps: usize,
    /// A file that must be refused comes before every so many of them; 0 for never.
    #[arg(long, default_value_t = 3)]
    broken_every: usize,
    /// Questions that each socket has under way at once.
    #[arg(long, default_value_t = 2)]
    in_flight: usize,
    /// How long a socket waits between its answers and its next questions, on average. Without a
    /// pause the server is at its limit all the time.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    think: Duration,
    /// How long a version serves before the next comes.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    serve: Duration,
    #[command(flatten)]
    plugins: PluginOptions,
}

impl Reload {
    /// With the numbers that stand when nothing else is said.
    pub fn standard(plugins: &PluginOptions) -> Self {
        Self {
            plugins: plugins.clone(),
            ..defaults()
        }
    }

    /// Runs it against a server of its own.
    pub async fn run(&self, options: &ServerOptions) -> Result<Report> {
        let (sandbox, mut swapper) = Sandbox::start(options, &self.plugins, &[]).await?;
        let report = self.swap_under_load(&sandbox, &mut swapper).await;
        sandbox.stop_after(report).await
    }

    async fn swap_under_load(&self, sandbox: &Sandbox, swapper: &mut Swapper) -> Result<Report> {
        let target = sandbox.target();
        eprintln!("{} sockets connect", self.sockets);
        let clients = crowd::connect(target, 0, self.sockets).await?;
        let memory = procfs::memory(target.pid)?;
        let meter = Meter::new();
        let stopwatch = Stopwatch::start(target)?;
        let mut tasks = JoinSet::new();
        for (socket, client) in clients.into_iter().enumerate() {
            let placements = sandbox.placements.clone();
            let asking = Asking::new(socket, self.in_flight, self.think, placements);
            tasks.spawn(asking.run(client, meter.clone()));
        }
        let swapped = self.swap(swapper).await;
        let connected = swapper.backend().clients().await;
        meter.stop();
        let faults = crowd::faults(tasks).await?;
        let usage = stopwatch.stop()?;
        faults.explain();
        swapped?;

        let mut report = Report::new("reload", &target.name);
        report.set("sockets", self.sockets);
        report.set("swaps", swapper.swaps());
        report.set("events", meter.total());
        report.set("disconnects", faults.disconnects);
        report.set("lost_acks", faults.lost);
        report.set("double_acks", faults.double);
        report.set("out_of_order", faults.out_of_order);
        report.set("wrong_version", faults.wrong);
        report.set("errors", faults.refused);
        report.add_faults(faults.total());
        swapper.report(&mut report);
        report.set("connected_at_end", connected?);
        usage.report(&mut report, meter.total(), &PER_MESSAGE);
        meter.latencies().report(&mut report);
        report.set("server_rss_kib_before", memory.resident_kib);
        report_memory(&mut report, target)?;
        Ok(report)
    }

    async fn swap(&self, swapper: &mut Swapper) -> Result<()> {
        for swap in 1..=self.swaps {
            sleep(self.serve).await;
            if self.broken_every > 0 && swap.is_multiple_of(self.broken_every) {
                swapper.put_broken().await?;
            }
            swapper.swap().await?;
            if swap.is_multiple_of(10) {
                eprintln!("{swap} of {} swaps", self.swaps);
            }
        }
        sleep(self.serve).await;
        Ok(())
    }
}
