//! `mixlab admin`: make the hash of the password for the admin page, of which `mixlab.toml` has nothing else.

use std::io::{IsTerminal, Read, stdin};

use clap::Subcommand;

use super::{
    EXIT_BAD_INPUT, Failure,
    output::{print, say},
};
use crate::config::PasswordHash;

#[derive(Subcommand)]
pub(super) enum Admin {
    /// Print the bcrypt hash of a password, which is read from standard input.
    Password,
}

/// More is no password.
const MAX_BYTES: u64 = 4096;

impl Admin {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self::Password = self;
        if stdin().is_terminal() {
            say(format_args!(
                "the password, which is shown as you write it; then Enter and Ctrl-D:"
            ));
        }
        let mut text = String::new();
        stdin().take(MAX_BYTES).read_to_string(&mut text)?;
        // What ends the line is not meant.
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        let hash = PasswordHash::of(password).map_err(|reason| Failure {
            code: EXIT_BAD_INPUT,
            reason,
        })?;
        print(|out| writeln!(out, "{hash}"))?;
        Ok(())
    }
}
