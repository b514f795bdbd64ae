//! What every scenario can be told: which server, where, and how to report.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::{Args, Command, ValueEnum};

use crate::peer::{self, load_folder};

/// What makes the guests.
const BUILD_GUESTS: &str =
    "cargo build --release --target wasm32-wasip2 -p mixlab-guests --examples";

/// The servers' core where the command line does not say another.
const SERVER_CORE: usize = 0;

/// The server under test.
#[derive(Args, Debug, Clone)]
pub struct ServerOptions {
    /// The kind of server to start.
    #[arg(long, global = true, default_value_t = Peer::Mixlab)]
    pub peer: Peer,
    /// The server's program [default: target/release/…, else target/debug/…].
    #[arg(long, global = true, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// MixLab's configuration [default: mixlab.toml of this tool].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A server on 127.0.0.1 that runs already, instead of one that is started. It is not stopped.
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["peer", "server", "config"])]
    pub attach: Option<String>,
    /// Its process, to read CPU time and memory of.
    #[arg(long, global = true, requires = "attach")]
    pub pid: Option<u32>,
    /// Its JWT_SECRET.
    #[arg(long, global = true, requires = "attach")]
    pub secret: Option<String>,
    /// Its API key.
    #[arg(long, global = true, requires = "attach")]
    pub api_key: Option<String>,
    /// Switch connection state recovery on, which costs MixLab and Node something.
    #[arg(long, global = true, conflicts_with = "attach")]
    pub recovery: bool,
    /// The core that the server runs on.
    #[arg(long, global = true, value_name = "N")]
    pub server_core: Option<usize>,
}

impl ServerOptions {
    /// MixLab's configuration.
    pub fn config(&self) -> PathBuf {
        self.config
            .clone()
            .unwrap_or_else(|| load_folder().join("mixlab.toml"))
    }

    /// The same, on a core of its own.
    pub fn on_core(&self) -> Self {
        Self {
            server_core: self.server_core.or(Some(SERVER_CORE)),
            ..self.clone()
        }
    }
}

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// MixLab with its shipped plugins.
    Mixlab,
    /// The same without connection state recovery, whatever is said of others.
    MixlabPlain,
    /// MixLab as another checkout has it, with recovery.
    Before,
    /// Node's Socket.IO server with the same events written in JavaScript.
    Node,
    /// The same in two processes, with sticky sessions and the cluster adapter.
    NodeCluster,
    /// socketioxide with the same events compiled in.
    Native,
}

impl Peer {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mixlab => "mixlab",
            Self::MixlabPlain => "mixlab-plain",
            Self::Before => "before",
            Self::Node => "node",
            Self::NodeCluster => "node-cluster",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Arguments as they are when nothing is given.
pub fn defaults<T: Args>() -> T {
    let matches = T::augment_args(Command::new("defaults")).get_matches_from(["defaults"]);
    T::from_arg_matches(&matches).expect("every argument has a default")
}

/// Compiled plugins: those that change or misbehave, and those that are shipped.
#[derive(Args, Debug, Clone)]
pub struct PluginOptions {
    /// The plugin that is replaced, with the other guests in the same folder
    /// [default: target/wasm32-wasip2/release/examples/stamped.wasm].
    #[arg(long, value_name = "FILE")]
    guest: Option<PathBuf>,
    /// The folder of the shipped plugins [default: target/plugins].
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

impl PluginOptions {
    /// The plugin whose versions are served one after the other.
    pub fn stamped(&self) -> Result<PathBuf> {
        let default = || peer::root().join("target/wasm32-wasip2/release/examples/stamped.wasm");
        existing(&self.guest.clone().unwrap_or_else(default), BUILD_GUESTS)
    }

    /// A plugin that is shipped.
    pub fn shipped(&self, name: &str) -> Result<PathBuf> {
        let default = || peer::root().join("target/plugins");
        let folder = self.plugins.clone().unwrap_or_else(default);
        existing(&folder.join(name).with_extension("wasm"), "mixlab build")
    }

    /// Another guest.
    pub fn named(&self, name: &str) -> Result<PathBuf> {
        existing(
            &self.stamped()?.with_file_name(name).with_extension("wasm"),
            BUILD_GUESTS,
        )
    }
}

/// An optimised program of this repository, or the one given: the figures of others mean nothing.
pub fn optimised(given: &Option<PathBuf>, name: &str) -> Result<PathBuf> {
    let release = || peer::root().join("target/release").join(name);
    let program = given.clone().unwrap_or_else(release);
    ensure!(
        program.is_file(),
        "there is no {}: cargo build --release -p {name}",
        program.display()
    );
    Ok(program)
}

fn existing(path: &Path, made_by: &str) -> Result<PathBuf> {
    ensure!(path.is_file(), "there is no {}: {made_by}", path.display());
    Ok(path.canonicalize()?)
}

/// A duration with a unit, e.g. `200ms`.
pub fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
