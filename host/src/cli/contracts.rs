//! `mixlab types` and `mixlab docs`: what clients may send and get, by the contracts of all plugins.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Failure, Global, logging, output::print};
use crate::{
    config::{self, LogLevel},
    contracts::{Contracts, OPENAPI},
    metrics, server,
};

#[derive(Args)]
pub(super) struct Types {
    /// The file to write, e.g. web/mixlab-events.d.ts; standard output without one.
    file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Docs {
    /// The folder to write index.html, asyncapi.json, openapi.json and events.d.ts to. It is made if it is
    /// not there.
    folder: PathBuf,
}

impl Types {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let types = contracts(global)?.to_typescript();
        match &self.file {
            Some(file) => write(file, &types),
            None => Ok(print(|out| out.write_all(types.as_bytes()))?),
        }
    }
}

impl Docs {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let contracts = contracts(global)?;
        let folder = &self.folder;
        fs::create_dir_all(folder)
            .map_err(|error| Failure::from(format!("{}: {error}", folder.display())))?;
        for (name, text) in [
            ("index.html", contracts.to_page()),
            ("asyncapi.json", contracts.to_asyncapi()),
            ("openapi.json", OPENAPI.to_owned()),
            ("events.d.ts", contracts.to_typescript()),
        ] {
            write(&folder.join(name), &text)?;
        }
        Ok(())
    }
}

/// Those of all plugins that are switched on. Without one of them a client would be told of a part.
fn contracts(global: &Global) -> Result<Contracts, Failure> {
    let config = global.load_config()?;
    // What is wrong is the result and not a matter for the log.
    let log = config::Log {
        level: LogLevel::Error,
        ..config.log.clone()
    };
    let _log = logging::start(&log, metrics::lost_log_lines())?;
    let (contracts, status) = super::runtime()?.block_on(server::contracts(&config))?;
    let refused = status.plugins.iter().filter_map(|plugin| {
        let reason = plugin.refusal.as_ref()?;
        Some(format!("{}: {reason}", plugin.name))
    });
    let refused: Vec<_> = refused.collect();
    match refused.is_empty() {
        true => Ok(contracts),
        false => Err(Failure::from(refused.join("\nerror: "))),
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| Failure::from(format!("{}: {error}", file.display())))?;
    Ok(print(|out| writeln!(out, "wrote {}", file.display()))?)
}
