//! A running server: started here, or found running.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};

use crate::{
    options::{Peer, ServerOptions},
    peer,
    report::Report,
    server::Server,
    target::{Target, loopback},
    token,
};

/// A server, and its process if it is ours. Dropping it ends that process.
pub struct Running {
    /// What clients need to know of it.
    pub target: Arc<Target>,
    server: Option<Server>,
}

/// What a server checks tokens with, and lets backends in with.
#[derive(Clone)]
pub struct Secrets {
    secret: String,
    api_key: String,
}

impl Secrets {
    /// New ones.
    pub fn new() -> Result<Self> {
        Ok(Self {
            secret: token::random_secret()?,
            api_key: token::random_secret()?,
        })
    }
}

impl Running {
    /// What the options name: a server that runs already, or a new one.
    pub async fn from_options(options: &ServerOptions) -> Result<Self> {
        let Some(url) = &options.attach else {
            return Self::start(options, &options.config()).await;
        };
        let missing = "--attach needs --pid, --secret and --api-key";
        let target = Target {
            name: url.clone(),
            address: loopback(url)?,
            pid: options.pid.context(missing)?,
            secret: options.secret.clone().context(missing)?,
            api_key: options.api_key.clone().context(missing)?,
        };
        Ok(Self {
            target: Arc::new(target),
            server: None,
        })
    }

    /// Starts a MixLab with a configuration of the scenario's own.
    pub async fn start_mixlab(options: &ServerOptions, config: &Path) -> Result<Self> {
        ensure!(
            options.attach.is_none() && options.peer == Peer::Mixlab,
            "this scenario changes plugins while they run: it starts a MixLab of its own"
        );
        Self::start(options, config).await
    }

    /// Starts one of several servers that have the same secrets, and more variables of the environment.
    pub async fn start_one_of(
        options: &ServerOptions,
        secrets: &Secrets,
        env: &[(&str, String)],
    ) -> Result<Self> {
        Self::start_with(options, &options.config(), secrets, env).await
    }

    async fn start(options: &ServerOptions, config: &Path) -> Result<Self> {
        Self::start_with(options, config, &Secrets::new()?, &[]).await
    }

    async fn start_with(
        options: &ServerOptions,
        config: &Path,
        secrets: &Secrets,
        env: &[(&str, String)],
    ) -> Result<Self> {
        let Secrets { secret, api_key } = secrets.clone();
        let mut command = peer::command(options, config)?;
        command
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env("JWT_SECRET", &secret)
            .env("MIXLAB_API_KEY", &api_key)
            // Where it is set, every trap of a plugin costs a look at the debug information.
            .env_remove("RUST_BACKTRACE");
        let server = Server::start(command, options.server_core).await?;
        let target = Target {
            name: options.peer.to_string(),
            address: server.address(),
            pid: server.pid(),
            secret,
            api_key,
        };
        Ok(Self {
            target: Arc::new(target),
            server: Some(server),
        })
    }

    /// Ends the server if it was started here.
    pub async fn stop(self) -> Result<()> {
        match self.server {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// Ends the server if it was started here, and hands the scenario's result on. If something
    /// went wrong, the server's log is shown.
    pub async fn stop_after(self, result: Result<Report>) -> Result<Report> {
        let Some(server) = self.server else {
            return result;
        };
        if result.as_ref().is_ok_and(|report| report.faults() > 0) {
            eprintln!("{}", server.log());
        }
        match (result, server.stop().await) {
            (result, Ok(())) => result,
            (Ok(_), Err(stopped)) => Err(stopped),
            // A server that has crashed explains what else went wrong.
            (Err(error), Err(stopped)) => Err(stopped.context(format!("{error:#}"))),
        }
    }
}
