//! `mixlab upgrade`: a new process follows the running server.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use super::{Failure, Global, control::Control, output::print, successor};

/// How often it is looked whether it serves.
const LOOK: Duration = Duration::from_millis(20);

/// How long it may take to serve when it is ready: clients are answered, and all plugins are loaded.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(super) struct Upgrade {}

impl Upgrade {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let control = Control::find(global)?.patient(successor::PATIENCE);
        let answer = control.post("/api/v1/upgrade")?;
        let Some(process) = answer["process"].as_u64() else {
            let reason = answer["refused"].as_str().unwrap_or("it does not say why");
            return Err(Failure::from(format!(
                "no process follows the running server: {reason}"
            )));
        };
        let since = Instant::now();
        let is_alive = || {
            let id = i32::try_from(process).ok().and_then(Pid::from_raw);
            id.is_none_or(|id| test_kill_process(id) != Err(Errno::SRCH))
        };
        while Control::process(global) != Some(process) {
            // It may serve by now, and have ended since.
            if !is_alive() && Control::process(global) != Some(process) {
                return Err(Failure::from(format!(
                    "process {process} was to follow and has ended: its log says why"
                )));
            }
            if since.elapsed() > PATIENCE {
                return Err(Failure::from(format!(
                    "process {process} was to follow and does not serve: its log says why"
                )));
            }
            sleep(LOOK);
        }
        Ok(print(|out| writeln!(out, "process {process} serves"))?)
    }
}
