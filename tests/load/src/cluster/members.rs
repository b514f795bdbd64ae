//! The servers of the cluster, which fail when they are told to.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::time::sleep;

use super::redis::{Redis, free_port};
use crate::{
    backend::Backend, configuration::Configuration, server::Server, target::Target, token,
};

/// How long a server may take until it is one of the cluster.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// So that clients know soon that a server does not answer.
const PING: &str = "1s";

/// A server that is started again and again at the same address.
pub struct Member {
    /// What clients need to know of it.
    pub target: Arc<Target>,
    /// None between its end and its next start.
    server: Mutex<Option<Server>>,
    program: PathBuf,
    config: PathBuf,
}

/// All of them.
pub struct Members {
    /// By number.
    pub all: Vec<Arc<Member>>,
    _configuration: Configuration,
}

impl Members {
    /// Starts so many servers, with what is the same for all.
    pub async fn start(count: usize, program: &Path, redis: &Redis, on_loss: &str) -> Result<Self> {
        let mut configuration = Configuration::new()?;
        configuration.add(&format!(
            "ping_interval = {PING:?}\nping_timeout = {PING:?}\n[limits]\nconnections = \"1000000/1s\"\n[cluster]\nurl = {:?}\non_loss = {on_loss:?}",
            redis.url()
        ));
        let config = configuration.write()?;
        let (secret, api_key) = (token::random_secret()?, token::random_secret()?);
        let mut all = Vec::new();
        for number in 0..count {
            let member = Arc::new(Member {
                target: Arc::new(Target {
                    name: format!("server {number}"),
                    address: ([127, 0, 0, 1], free_port()?).into(),
                    pid: 0,
                    secret: secret.clone(),
                    api_key: api_key.clone(),
                }),
                server: Mutex::default(),
                program: program.to_owned(),
                config: config.clone(),
            });
            member.start().await?;
            all.push(member);
        }
        Ok(Self {
            all,
            _configuration: configuration,
        })
    }

    /// Waits until each of them is one of the cluster.
    pub async fn are_ready(&self) -> Result<()> {
        let began = Instant::now();
        for member in &self.all {
            while !member.is_ready().await {
                if began.elapsed() > READY {
                    bail!(
                        "{} is not ready again\n{}",
                        member.target.name,
                        member.log()
                    );
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

impl Drop for Members {
    /// Whoever still has a member, its server ends.
    fn drop(&mut self) {
        for member in &self.all {
            member.kill();
        }
    }
}

impl Member {
    /// Starts it again.
    pub async fn start(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .args([
                "up",
                "--listen",
                &self.target.address.to_string(),
                "--config",
            ])
            .arg(&self.config)
            .env("JWT_SECRET", &self.target.secret)
            .env("MIXLAB_API_KEY", &self.target.api_key);
        let server = Server::start(command, None).await?;
        *self.lock() = Some(server);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&self) {
        *self.lock() = None;
    }

    /// SIGTERM, and the time until it has ended.
    pub async fn leave(&self) -> Result<()> {
        let server = self.lock().take().context("it runs")?;
        server.stop().await
    }

    /// It does nothing for so long.
    pub async fn hold(&self, time: Duration) -> Result<()> {
        self.signal(Signal::STOP)?;
        sleep(time).await;
        self.signal(Signal::CONT)
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.lock().as_ref().map(Server::log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.lock().as_ref().context("it runs")?.signal(signal)
    }

    async fn is_ready(&self) -> bool {
        match Backend::connect(&self.target).await {
            Ok(mut backend) => backend.is_ready().await.unwrap_or(false),
            Err(_) => false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Server>> {
        self.server.lock().expect("no holder panics")
    }
}
