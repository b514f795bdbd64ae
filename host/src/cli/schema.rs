//! `mixlab schema`: what editors check mixlab.toml by.

use clap::Args;

use super::{Failure, output::print};
use crate::config;

#[derive(Args)]
pub(super) struct Schema {}

/// What it is called beside a `mixlab.toml`.
pub(super) const FILE: &str = "mixlab.schema.json";

/// The first line of a file that it is beside, by which editors find it.
pub(super) const DIRECTIVE: &str = "#:schema mixlab.schema.json";

impl Schema {
    pub(super) fn run(self) -> Result<(), Failure> {
        Ok(print(|out| out.write_all(text().as_bytes()))?)
    }
}

/// The schema as a file has it.
pub(super) fn text() -> String {
    serde_json::to_string_pretty(&config::schema()).expect("it is JSON") + "\n"
}
