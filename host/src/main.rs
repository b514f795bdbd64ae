//! The `mixlab` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mixlab::cli::run()
}
