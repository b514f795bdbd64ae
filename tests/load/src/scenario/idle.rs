//! What a connection costs that does nothing.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use tokio::{task::JoinSet, time::sleep};

use super::sockets;
use crate::{
    crowd,
    faults::Faults,
    options::duration,
    procfs,
    report::Report,
    target::Target,
    transport::Transport,
    usage::{Stopwatch, report_memory},
};

/// Connections that come and go before the base is taken, so that it holds what any first
/// connection allocates.
const FIRST: usize = 16;

/// Hold connections that do nothing.
#[derive(Args, Debug, Clone)]
pub struct Idle {
    /// Connections.
    #[arg(long, default_value = "1000", value_parser = sockets())]
    pub sockets: usize,
    /// How long the server may come to rest before its memory is read.
    #[arg(long, default_value = "4s", value_parser = duration)]
    pub rest: Duration,
    /// How long they are held and the server's CPU time is measured.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub hold: Duration,
    /// What they are connected over.
    #[arg(long, default_value = "websocket")]
    pub transport: Transport,
}

impl Idle {
    /// Runs it.
    pub async fn run(&self, target: &Arc<Target>) -> Result<Report> {
        let connect = |first, count| crowd::connect_over(self.transport, target, first, count);
        crowd::close(connect(0, FIRST).await?).await;
        sleep(self.rest).await;
        let base = procfs::memory(target.pid)?;
        let mut tasks = JoinSet::new();
        for mut client in connect(FIRST as u64, self.sockets).await? {
            tasks.spawn(async move { client.idle().await });
        }
        sleep(self.rest).await;
        let stopwatch = Stopwatch::start(target)?;
        sleep(self.hold).await;
        let usage = stopwatch.stop()?;
        let full = procfs::memory(target.pid)?;
        let mut faults = Faults::default();
        // Idle clients end only when something went wrong.
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended? {
                faults.disconnected(&error);
            }
        }
        tasks.shutdown().await;
        sleep(self.rest).await;

        let mut report = Report::new("idle", &target.name);
        report.set("transport", self.transport.name());
        report.set("sockets", self.sockets);
        faults.report(&mut report);
        report.set("base_rss_kib", base.resident_kib);
        report.set("full_rss_kib", full.resident_kib);
        let added = full.resident_kib.saturating_sub(base.resident_kib);
        report.set_number("kib_per_connection", added as f64 / self.sockets as f64);
        let cpu = usage.server_cpu.as_secs_f64() / usage.elapsed.as_secs_f64();
        report.set_number("cpu_ms_per_second", cpu * 1e3);
        report_memory(&mut report, target)?;
        Ok(report)
    }
}
