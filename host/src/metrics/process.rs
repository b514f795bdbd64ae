//! What the process takes of its machine, under the names that Prometheus' own clients use.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{Counter, Gauge, IntGauge, Opts, Registry};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::registered;

/// Shown where the system tells it: memory and files on Linux only.
pub(super) struct Process {
    cpu: Counter,
    resident: IntGauge,
    open_files: IntGauge,
    most_files: IntGauge,
}

impl Process {
    /// Of this process, which has begun just now.
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is valid");
            registered(registry, gauge)
        };
        let float = |name: &str, help: &str| Gauge::new(name, help).expect("the name is valid");
        let started = float(
            "process_start_time_seconds",
            "When the server started, in seconds since 1970",
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        registered(registry, started).set(now.unwrap_or_default().as_secs_f64());
        let version = Opts::new("mixlab_build_info", "1, with the version of the server")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let version = IntGauge::with_opts(version).expect("the name is valid");
        registered(registry, version).set(1);
        let cpu = Counter::new(
            "process_cpu_seconds_total",
            "Time that its threads have used of processors",
        );
        Self {
            cpu: registered(registry, cpu.expect("the name is valid")),
            resident: gauge(
                "process_resident_memory_bytes",
                "Memory that it has of the machine",
            ),
            open_files: gauge("process_open_fds", "Files and sockets that are open"),
            most_files: gauge(
                "process_max_fds",
                "As many files and sockets may be open (ulimit -n); 0 for any number",
            ),
        }
    }

    /// Looks at the process.
    pub(super) fn look(&self) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        let most = getrlimit(Resource::Nofile).current.unwrap_or(0);
        self.most_files.set(most.try_into().unwrap_or(i64::MAX));
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // Without the one that this look has opened.
            let open = files.count().saturating_sub(1);
            self.open_files.set(open as i64);
        }
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
    }
}

/// The line `VmRSS:    123456 kB` of the process' own status.
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
