//! What the server and this tool use up between two moments.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{procfs, report::Report, target::Target};

/// The beginning of a measurement.
pub struct Stopwatch {
    began: Instant,
    server: Vec<u32>,
    server_cpu: Duration,
    own_cpu: Duration,
}

/// What was used up.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Time on the clock.
    pub elapsed: Duration,
    /// CPU time of the server.
    pub server_cpu: Duration,
    /// CPU time of this tool.
    pub own_cpu: Duration,
}

impl Stopwatch {
    /// Begins.
    pub fn start(target: &Target) -> Result<Self> {
        let server = procfs::tree(target.pid)?;
        Ok(Self {
            server_cpu: procfs::cpu_time(&server)?,
            server,
            own_cpu: own_cpu()?,
            began: Instant::now(),
        })
    }

    /// Ends.
    pub fn stop(&self) -> Result<Usage> {
        Ok(Usage {
            elapsed: self.began.elapsed(),
            server_cpu: procfs::cpu_time(&self.server)?.saturating_sub(self.server_cpu),
            own_cpu: own_cpu()?.saturating_sub(self.own_cpu),
        })
    }
}

fn own_cpu() -> Result<Duration> {
    procfs::cpu_time(&[std::process::id()])
}

/// What is counted, by the names that it has in a report.
pub struct Unit {
    /// How many there were.
    pub count: &'static str,
    /// What one cost the server.
    pub server_cpu: &'static str,
    /// What one cost this tool.
    pub own_cpu: &'static str,
}

/// Questions answered, or copies delivered.
pub const PER_MESSAGE: Unit = Unit {
    count: "messages",
    server_cpu: "cpu_us_per_message",
    own_cpu: "load_cpu_us_per_message",
};

/// Handshakes.
pub const PER_CONNECT: Unit = Unit {
    count: "connects",
    server_cpu: "cpu_us_per_connect",
    own_cpu: "load_cpu_us_per_connect",
};

impl Usage {
    /// Puts it into a report, for each of so many as well.
    pub fn report(&self, report: &mut Report, count: u64, unit: &Unit) {
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
        report.set(unit.count, count);
        report.set_number("seconds", self.elapsed.as_secs_f64());
        report.set_number("per_second", count as f64 / self.elapsed.as_secs_f64());
        report.set_number(unit.server_cpu, each(self.server_cpu));
        report.set_number(unit.own_cpu, each(self.own_cpu));
    }
}

/// Puts the server's memory into a report.
pub fn report_memory(report: &mut Report, target: &Target) -> Result<()> {
    let memory = procfs::memory(target.pid)?;
    report.set("server_rss_kib", memory.resident_kib);
    report.set("server_peak_rss_kib", memory.peak_kib);
    Ok(())
}
