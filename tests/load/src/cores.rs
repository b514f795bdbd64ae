//! Which cores run what, and how many files a process may have open.

use std::io;

use anyhow::{Result, ensure};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Pins the calling thread, and what it starts from now on, to one core.
pub fn pin_to(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// The cores that the calling thread may run on.
pub fn current() -> io::Result<CpuSet> {
    Ok(sched_getaffinity(None)?)
}

/// Lets the calling thread, and what it starts from now on, run on these cores.
pub fn pin_to_all(cores: &CpuSet) -> io::Result<()> {
    Ok(sched_setaffinity(None, cores)?)
}

/// As many open files as the system allows, for this process and those that it starts: every
/// connection is one on either side.
pub fn allow_many_files() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Fails where so many connections would not fit, with some files for everything else.
pub fn check_room_for(connections: usize) -> Result<()> {
    const OTHERS: u64 = 200;
    let needed = connections as u64 + OTHERS;
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        allowed >= needed,
        "{connections} connections need {needed} open files and the system allows {allowed}: \
         raise the hard limit (ulimit -Hn)"
    );
    Ok(())
}
