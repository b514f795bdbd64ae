//! The servers that are compared, and where the figures go.

use std::{fs, path::PathBuf};

use anyhow::{Context, Error, Result};
use clap::Args;
use serde_json::Value;

use crate::{
    build,
    machine::Machine,
    options::{Peer, ServerOptions, optimised},
    peer::load_folder,
    report::Format,
};

/// Optimised programs, and a folder.
#[derive(Args, Debug, Clone)]
pub struct Programs {
    /// MixLab's program; the others must be there as well then [default: everything is built].
    #[arg(long, value_name = "PATH")]
    mixlab: Option<PathBuf>,
    /// The native server's program [default: target/release/mixlab-load-native].
    #[arg(long, value_name = "PATH")]
    native: Option<PathBuf>,
    /// Another checkout of MixLab, built, to be compared as `before`: an earlier commit, say.
    #[arg(long, value_name = "DIR")]
    before: Option<PathBuf>,
    /// Where the results go [default: results in this tool's folder].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Programs {
    /// Builds what these kinds of servers need, unless there is a program already.
    pub fn build(&self, peers: &[Peer]) -> Result<()> {
        match self.mixlab {
            Some(_) => Ok(()),
            None => build::everything(peers),
        }
    }

    /// Builds the plugins of a configuration of this repository, unless there is a program already.
    pub fn build_plugins(&self, config: &str) -> Result<()> {
        match self.mixlab {
            Some(_) => Ok(()),
            None => build::plugins(config),
        }
    }

    /// Options to start a server with.
    pub fn server(&self, peer: Peer, options: &ServerOptions) -> Result<ServerOptions> {
        let checkout = || self.before.clone().context("there is no --before");
        let of_before = |path: &str| Ok::<_, Error>(checkout()?.join(path));
        Ok(ServerOptions {
            peer,
            server: match peer {
                Peer::Mixlab | Peer::MixlabPlain => Some(optimised(&self.mixlab, "mixlab")?),
                Peer::Before => {
                    let program = of_before("target/release/mixlab")?;
                    Some(optimised(&Some(program), "mixlab")?)
                }
                Peer::Native => Some(optimised(&self.native, "mixlab-load-native")?),
                Peer::Node | Peer::NodeCluster => None,
            },
            config: match peer {
                Peer::Before => Some(of_before("tests/load/mixlab.toml")?),
                _ => options.config.clone(),
            },
            ..options.clone()
        })
    }

    /// Whether an earlier MixLab takes part.
    pub fn has_before(&self) -> bool {
        self.before.is_some()
    }

    /// What the figures are measured on.
    pub fn machine(&self) -> Result<Machine> {
        Ok(Machine::this(&optimised(&self.mixlab, "mixlab")?))
    }

    /// Writes files into the folder of results: their names and texts.
    pub fn write(&self, files: &[(&str, &str)]) -> Result<()> {
        let default = || load_folder().join("results");
        let folder = self.output.clone().unwrap_or_else(default);
        fs::create_dir_all(&folder)?;
        for (name, text) in files {
            fs::write(folder.join(name), text)?;
        }
        eprintln!("written to {}", folder.display());
        Ok(())
    }
}

/// What is printed: the table, or the values in one line.
pub fn printed(format: Format, table: String, values: &Value) -> String {
    match format {
        Format::Text => table,
        Format::Json => values.to_string(),
    }
}
