//! `mixlab drain`: the running server leaves, and its clients go elsewhere.

use std::{thread::sleep, time::Duration};

use clap::Args;

use super::{Failure, Global, control::Control, output::print};

/// How often it is looked how many clients are left.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Drain {
    /// Return at once.
    #[arg(long)]
    no_wait: bool,
}

impl Drain {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let control = Control::find(global)?;
        let mut told = None;
        loop {
            let answer = control.post("/api/v1/drain")?;
            let clients = answer["clients"].as_u64().unwrap_or_default();
            if told.replace(clients) != Some(clients) {
                print(|out| writeln!(out, "{clients} clients"))?;
            }
            if self.no_wait || answer["state"] == "drained" {
                return Ok(());
            }
            sleep(LOOK);
        }
    }
}
