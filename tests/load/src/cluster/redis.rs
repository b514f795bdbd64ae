//! A Redis of our own, which fails when it is told to.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

/// How long it may take to listen, with all that it had to read.
const START: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// A `redis-server` with a folder of its own. Dropping it ends it.
pub struct Redis {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Redis {
    /// Starts it, on a port that is free.
    pub async fn start() -> Result<Self> {
        let (folder, port) = (TempDir::new()?, free_port()?);
        let child = launch(&folder, port)?;
        let mut redis = Self {
            child,
            folder,
            port,
        };
        redis.listens().await?;
        Ok(redis)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// It does nothing for so long.
    pub async fn hold(&self, time: Duration) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP)?;
        sleep(time).await;
        Ok(kill_process(pid, Signal::CONT)?)
    }

    /// It is killed, away for so long, and there again, with what it had.
    pub async fn die(&mut self, time: Duration) -> Result<()> {
        self.end();
        sleep(time).await;
        self.child = launch(&self.folder, self.port)?;
        self.listens().await
    }

    /// It is killed, and there again with nothing.
    pub async fn forget(&mut self) -> Result<()> {
        self.end();
        self.folder = TempDir::new()?;
        self.child = launch(&self.folder, self.port)?;
        self.listens().await
    }

    async fn listens(&mut self) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            ensure!(
                self.child.try_wait()?.is_none() && began.elapsed() < START,
                "redis-server does not listen at port {}",
                self.port
            );
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn end(&mut self) {
        // Both fail only where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

fn launch(folder: &TempDir, port: u16) -> Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .arg("--port")
        .arg(port.to_string())
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start redis-server")
}

/// A port that nothing listens at, for what cannot choose one by itself, or has to keep it.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
