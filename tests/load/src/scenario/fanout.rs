//! A backend pushes payment updates over HTTP to many subscribers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::sockets;
use crate::{
    backend::Backend,
    crowd,
    meter::Meter,
    options::duration,
    report::Report,
    subscriber::{Subscriber, Updates},
    target::Target,
    usage::{PER_MESSAGE, Stopwatch, report_memory},
};

/// How many updates come before those that are measured, and how long they may take.
const WARM_UP: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Push to many, and check that all of them get everything.
#[derive(Args, Debug, Clone)]
pub struct Fanout {
    /// Sockets that have subscribed to payments.
    #[arg(long, default_value = "200", value_parser = sockets())]
    pub subscribers: usize,
    /// Updates that are pushed and measured.
    #[arg(long, default_value_t = 100)]
    pub pushes: u64,
    /// Time from one push to the next, or longer where the server's answer takes longer.
    #[arg(long, default_value = "20ms", value_parser = duration)]
    pub every: Duration,
    /// Updates that are pushed at each of these times, one after the other's answer.
    #[arg(long, default_value_t = 1)]
    pub at_once: u64,
    /// Length of the text in each update.
    #[arg(long, default_value_t = 64)]
    pub bytes: usize,
}

impl Fanout {
    /// Runs it.
    pub async fn run(&self, target: &Arc<Target>) -> Result<Report> {
        self.run_between(target, target).await
    }

    /// The same with pushes to one server, and subscribers at another one of its cluster. How many
    /// recipients there are is not known there.
    pub async fn run_between(&self, pushed: &Arc<Target>, target: &Arc<Target>) -> Result<Report> {
        let updates = Updates::new(self.bytes);
        let meter = Meter::new();
        let mut tasks = JoinSet::new();
        for mut client in crowd::connect(target, 0, self.subscribers).await? {
            let subscriber = Subscriber::subscribe(&mut client, updates.clone()).await?;
            tasks.spawn(subscriber.run(client, meter.clone()));
        }
        let mut backend = Backend::connect(pushed).await?;
        let mut miscounted = self.push(WARM_UP, &updates, &mut backend).await?;
        self.wait_for_all(&meter).await;

        meter.latencies().clear();
        let before = meter.total();
        let is_one = pushed.pid == target.pid;
        let stopwatch = Stopwatch::start(target)?;
        let other = (!is_one).then(|| Stopwatch::start(pushed)).transpose()?;
        miscounted += self.push(self.pushes, &updates, &mut backend).await?;
        meter.stop();
        let faults = crowd::faults(tasks).await?;
        let mut usage = stopwatch.stop()?;
        if let Some(other) = other {
            usage.server_cpu += other.stop()?.server_cpu;
            miscounted = 0;
        }

        let mut report = Report::new("fanout", &target.name);
        report.set("subscribers", self.subscribers);
        report.set("pushes", self.pushes);
        report.set("bytes", self.bytes);
        faults.report(&mut report);
        report.set("miscounted_pushes", miscounted);
        report.add_faults(miscounted);
        usage.report(&mut report, meter.total() - before, &PER_MESSAGE);
        meter.latencies().report(&mut report);
        report_memory(&mut report, target)?;
        Ok(report)
    }

    /// Pushes so many; returns how often the server named another number of recipients.
    async fn push(&self, count: u64, updates: &Updates, backend: &mut Backend) -> Result<u64> {
        let mut ticks = interval(self.every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut miscounted = 0;
        for number in 0..count {
            if number % self.at_once.max(1) == 0 {
                ticks.tick().await;
            }
            let delivered = updates.push(backend).await?;
            miscounted += u64::from(delivered != Some(self.subscribers as u64));
        }
        Ok(miscounted)
    }

    /// Waits for the first copies. If they do not come, the faults will tell.
    async fn wait_for_all(&self, meter: &Meter) {
        let began = Instant::now();
        let copies = WARM_UP * self.subscribers as u64;
        while meter.total() < copies && began.elapsed() < PATIENCE {
            sleep(Duration::from_millis(5)).await;
        }
    }
}
