//! The configuration: defaults, overlaid by `mixlab.toml`, overlaid by environment variables.
//!
//! In the order of the work: `locate` reads the file and keeps its lines, `environment` reads
//! the variables, `file` holds what was written, `resolve` turns it into `Config`, which is
//! what it means; `sections` has each of its tables. Whatever is wrong on the way is a `problem` with the key it is about; the
//! first in the file becomes the `ConfigError`.

mod affinity;
mod api_key;
mod choice;
mod compression;
mod doubts;
mod environment;
mod error;
mod file;
mod listen;
mod locate;
pub(crate) mod moment;
mod network;
mod origin;
mod parser;
mod problem;
mod request_token;
mod resolve;
mod restart;
mod schema;
mod secret;
mod sections;
mod transports;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

pub use crate::access::Access;
pub use affinity::AffinityCookie;
pub use api_key::{ApiKey, KeyHash, KnownKey};
pub use compression::Compression;
pub use doubts::{HOW_TO_MAKE_ONE, MIN_JWT_SECRET_BYTES};
pub use error::ConfigError;
pub use listen::Listen;
pub use network::Network;
pub use origin::Origin;
pub use parser::Parser;
pub use request_token::{CookieName, TokenHeader};
pub(crate) use schema::schema;
pub use secret::Secret;
pub use sections::*;
pub use transports::AllowedTransports;

use environment::Environment;
use file::ConfigFile;
use locate::Document;
use problem::Problems;

/// Everything that can be configured, checked and with all defaults filled in. The defaults alone
/// are `Config::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The address to listen on.
    pub listen: Listen,
    /// Whether clients are spoken to over TLS.
    pub tls: Option<Tls>,
    /// What is logged.
    pub log: Log,
    /// Where it is written who changed what and who was refused.
    pub audit: Audit,
    /// How tokens are checked and read.
    pub auth: Auth,
    /// The payment updates.
    pub payments: Payments,
    /// Which other sites' pages may connect.
    pub cors: Cors,
    /// The Socket.IO connections.
    pub socket: Socket,
    /// The HTTP API for backends.
    pub api: Api,
    /// The namespace of Socket.IO's admin page, if there is one.
    pub admin: Option<Admin>,
    /// The static files that are served.
    pub web: Web,
    /// The page for operators.
    pub console: Console,
    /// Where and how plugins run.
    pub runtime: Runtime,
    /// What one call of a plugin may use up; each plugin has its own copy, with its overrides.
    pub budget: Budget,
    /// How often clients may send and connect, whatever plugins say.
    pub limits: Limits,
    /// When a plugin that keeps failing is paused.
    pub breaker: Breaker,
    /// What clients that come back get.
    pub recovery: Recovery,
    /// What plugins remember.
    pub presence: Presence,
    /// `[history]`
    pub history: History,
    /// `[store]`
    pub store: Store,
    /// `[cluster]`
    pub cluster: Cluster,
    /// How a server leaves that is told to.
    pub shutdown: Shutdown,
    /// Where traces and metrics are sent.
    pub telemetry: Telemetry,
    /// How a changed plugin replaces the one that is running.
    pub reload: Reload,
    /// The plugins in the order of the file, disabled ones too.
    pub plugins: Vec<Plugin>,
}

/// What the command line says over file and environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
}

impl Config {
    /// Loads the file with the environment of this process over it.
    ///
    /// Relative paths in either are relative to the folder of the file. Nothing but the file is
    /// touched: whether the plugins and folders it names exist is for those who open them.
    pub fn load(path: &Path, overrides: Overrides) -> Result<Self, ConfigError> {
        Self::load_with(path, overrides, std::env::vars_os())
    }

    /// As [`Config::load`]; a file that is not there counts as an empty one.
    pub(crate) fn load_if_there(path: &Path, overrides: Overrides) -> Result<Self, ConfigError> {
        let text = match read(path) {
            Err(ConfigError::Missing { .. }) => String::new(),
            text => text?,
        };
        Self::parse(path, &text, overrides, std::env::vars_os())
    }

    /// As [`Config::load`], with these environment variables instead of those of the process.
    pub fn load_with(
        path: &Path,
        overrides: Overrides,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        Self::parse(path, &read(path)?, overrides, variables)
    }

    fn parse(
        path: &Path,
        text: &str,
        overrides: Overrides,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let document = Document::parse(path, text)?;

        let mut problems = Problems::default();
        let environment = Environment::read(variables, overrides, &mut problems);
        let written = ConfigFile::read(&document, &environment, &mut problems);
        let folder = path.parent().unwrap_or(Path::new(""));
        let config = resolve::resolve(written, folder, &document, &environment, &mut problems);

        match problems.into_first(&document, &environment) {
            Some(error) => Err(error),
            None => Ok(config),
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing { path: path.into() },
        _ => ConfigError::Unreadable {
            path: path.into(),
            reason: error.to_string(),
        },
    })
}

#[cfg(test)]
mod tests;
