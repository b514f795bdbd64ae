//! What a server has used: a process with all those that it has started.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};

/// Where the parent is in /proc/PID/stat, counted after the name in parentheses.
const PARENT: usize = 1;

/// Memory of a server, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident now.
    pub resident_kib: u64,
    /// Resident at most so far.
    pub peak_kib: u64,
}

/// A process and its descendants.
pub fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes come and go meanwhile.
        if let Ok(parent) = parent(pid) {
            parents.push((pid, parent));
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&process) = tree.get(next) {
        let children = parents.iter().filter(|(_, parent)| *parent == process);
        tree.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(tree)
}

/// The CPU time of processes and all their threads so far, user and system, from the clocks that
/// the kernel keeps for them: /proc/PID/stat has the same in steps of 10 ms.
pub fn cpu_time(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| clock(*pid)).sum()
}

#[allow(
    unsafe_code,
    reason = "there is no safe way to read the clock of another process"
)]
fn clock(pid: u32) -> Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut clock = 0;
    // SAFETY: both functions write where they are told to and keep nothing.
    let read = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    ensure!(read, "process {pid} is not there");
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The memory of a server. What its processes share counts for each of them.
pub fn memory(root: u32) -> Result<Memory> {
    let mut sum = Memory {
        resident_kib: 0,
        peak_kib: 0,
    };
    for pid in tree(root)? {
        let status = read(pid, "status")?;
        let kib = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let value = line.and_then(|line| line.split_ascii_whitespace().next());
            Ok(value
                .with_context(|| format!("no {key} in status"))?
                .parse()?)
        };
        sum.resident_kib += kib("VmRSS:")?;
        sum.peak_kib += kib("VmHWM:")?;
    }
    Ok(sum)
}

fn parent(pid: u32) -> Result<u32> {
    let stat = read(pid, "stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let parent = fields.split_ascii_whitespace().nth(PARENT);
    Ok(parent.context("stat is too short")?.parse()?)
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .with_context(|| format!("process {pid} is not there"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        let memory = memory(pid).unwrap();
        assert!(memory.resident_kib > 0 && memory.peak_kib >= memory.resident_kib);
        let before = cpu_time(&[pid]).unwrap();
        let mut sum = 0_u64;
        while cpu_time(&[pid]).unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[test]
    fn a_server_is_all_the_processes_that_it_started() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let tree = tree(std::process::id()).unwrap();
        assert!(tree.contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(cpu_time(&[child.id()]).is_err());
    }
}
