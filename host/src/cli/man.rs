//! `mixlab man`: its pages for `man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Cli, Failure};

#[derive(Args)]
pub(super) struct Man {
    /// The folder that the pages are written to: one of each command.
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.folder));
        written.map_err(|error| Failure {
            code: 1,
            reason: format!("cannot write pages to {}: {error}", self.folder.display()),
        })
    }
}
