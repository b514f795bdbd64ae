//! What the figures were measured on and with.

use std::{fmt, fs, path::Path, process::Command};

/// The machine, and the servers' versions.
pub struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    mixlab: String,
    node: String,
}

impl Machine {
    /// This one.
    pub fn this(mixlab: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            processor: processor.map_or_else(unknown, |name| {
                name.trim_matches([' ', '\t', ':']).to_owned()
            }),
            // Of the machine: this process is pinned to one.
            cores: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            kernel: kernel.map_or_else(|_| unknown(), |kernel| kernel.trim().to_owned()),
            mixlab: version(mixlab).unwrap_or_else(unknown),
            node: version(Path::new("node")).unwrap_or_else(unknown),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            cores,
            kernel,
            mixlab,
            node,
        } = self;
        write!(
            f,
            "{mixlab}, Node {node} with socket.io 4.8, socketioxide 0.18.9 as native; {processor}, \
             {cores} cores, Linux {kernel}."
        )
    }
}

fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
