//! `mixlab plugin pull`: a component from an OCI registry, by its digest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Failure, Global, output::print};
use crate::{
    config::Config,
    oci::{Reference, Signer},
};

#[derive(Args)]
pub(super) struct Pull {
    /// Which component: oci://HOST/NAME@sha256:DIGEST.
    from: Reference,
    /// The file to write.
    file: PathBuf,
    /// The environment variable that holds USER:PASSWORD for the registry.
    #[arg(long, value_name = "VARIABLE")]
    credentials_env: Option<String>,
    /// A file with the public key, as PEM, of who must have signed it with cosign.
    #[arg(long, value_name = "FILE")]
    signed_by: Option<PathBuf>,
}

impl Pull {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        let config = Config::load_if_there(&global.config, global.overrides());
        let max_bytes = config.map_err(Failure::bad_input)?.budget.file;
        let credentials = self.credentials_env.as_deref().map(|variable| {
            std::env::var(variable).map_err(|_| {
                Failure::from(format!("the environment variable {variable} is not set"))
            })
        });
        let credentials = credentials.transpose()?;
        let signed_by = self.signed_by.as_deref().map(signer).transpose()?;
        let pulled = self.from.pull(
            &self.file,
            max_bytes,
            credentials.as_deref(),
            signed_by.as_ref(),
        );
        let bytes = pulled.map_err(Failure::from)?;
        Ok(print(|out| {
            writeln!(out, "wrote {}: {bytes} bytes", self.file.display())
        })?)
    }
}

fn signer(file: &Path) -> Result<Signer, Failure> {
    let failed = |reason: &str| Failure::from(format!("{}: {reason}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| failed(&error.to_string()))?;
    text.parse().map_err(failed)
}
