//! Handshakes with a token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use tokio::{task::JoinSet, time::sleep};

use super::sockets;
use crate::{
    backend::Backend,
    faults::Faults,
    latency::Latencies,
    report::Report,
    target::Target,
    transport::Transport,
    usage::{PER_CONNECT, Stopwatch, report_memory},
};

/// How long the server may take to notice that all clients have gone.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connect many users.
#[derive(Args, Debug, Clone)]
pub struct Connect {
    /// Users, each with a token of its own. They stay until all are there.
    #[arg(long, default_value = "500", value_parser = sockets())]
    pub clients: usize,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 16)]
    pub at_once: usize,
    /// What they connect over.
    #[arg(long, default_value = "websocket")]
    pub transport: Transport,
}

impl Connect {
    /// Runs it.
    pub async fn run(&self, target: &Arc<Target>) -> Result<Report> {
        let tokens: Arc<[String]> = (0..self.clients as u64)
            .map(|id| target.token(id))
            .collect();
        let latencies = Arc::new(Latencies::default());
        let next = Arc::new(AtomicU64::new(0));
        let mut backend = Backend::connect(target).await?;
        let stopwatch = Stopwatch::start(target)?;
        let mut tasks = JoinSet::new();
        for _ in 0..self.at_once.clamp(1, self.clients) {
            let (target, tokens) = (target.clone(), tokens.clone());
            let (latencies, next) = (latencies.clone(), next.clone());
            let transport = self.transport;
            tasks.spawn(async move {
                let (mut clients, mut faults) = (Vec::new(), Faults::default());
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    let Some(token) = tokens.get(id as usize) else {
                        return (clients, faults);
                    };
                    let began = Instant::now();
                    match transport.connect(&target, id, token).await {
                        Ok(client) => {
                            latencies.record(&[began.elapsed()]);
                            clients.push(client);
                        }
                        Err(error) => faults.disconnected(&error),
                    }
                }
            });
        }
        let (mut clients, mut faults) = (Vec::new(), Faults::default());
        while let Some(done) = tasks.join_next().await {
            let (mut connected, failed) = done?;
            clients.append(&mut connected);
            faults += failed;
        }
        let usage = stopwatch.stop()?;
        let connected = clients.len() as u64;
        let counted = backend.clients().await?;
        for client in clients {
            client.close().await?;
        }
        let left = left(&mut backend).await?;

        let mut report = Report::new("connect", &target.name);
        report.set("transport", self.transport.name());
        report.set("clients", self.clients);
        report.set("counted_by_server", counted);
        report.set("left_at_end", left);
        report.add_faults(counted.abs_diff(connected) + left);
        faults.report(&mut report);
        usage.report(&mut report, connected, &PER_CONNECT);
        latencies.report(&mut report);
        report_memory(&mut report, target)?;
        Ok(report)
    }
}

/// How many clients the server still counts when it had time to notice that none is there.
async fn left(backend: &mut Backend) -> Result<u64> {
    let began = Instant::now();
    loop {
        let left = backend.clients().await?;
        if left == 0 || began.elapsed() > PATIENCE {
            return Ok(left);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
