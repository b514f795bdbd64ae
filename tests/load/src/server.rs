//! A server process that this tool has started, and that it alone ends.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{cores::pin_to, target::loopback};

/// How long a server may take to listen; plugins are compiled in it.
const START: Duration = Duration::from_secs(60);

/// How long it may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// How often it is looked at while it ends.
const LOOK: Duration = Duration::from_millis(20);

/// How much of its log is shown when something is wrong.
const LOG_LINES: usize = 40;

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: NamedTempFile,
}

impl Server {
    /// Starts a command, on one core if it is told which, and waits until it says
    /// `… is listening on http://ADDRESS`.
    pub async fn start(mut command: Command, core: Option<usize>) -> Result<Self> {
        let log = NamedTempFile::new()?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.reopen()?);
        let shown = format!("{command:?}");
        // A process inherits the cores of the thread that starts it.
        let spawned = thread::spawn(move || {
            if let Some(core) = core {
                pin_to(core)?;
            }
            command.spawn()
        });
        let spawned = spawned.join().expect("the thread does not panic");
        let mut child = spawned.with_context(|| format!("cannot start {shown}"))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut server = Self {
            child,
            // Until it says which.
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        let (announce, announced) = oneshot::channel();
        thread::spawn(move || read_output(stdout, announce));
        match timeout(START, announced).await {
            Ok(Ok(url)) => server.address = loopback(&url)?,
            Ok(Err(_)) => bail!("the server does not start: {shown}\n{}", server.log()),
            Err(_) => bail!(
                "the server does not listen in time: {shown}\n{}",
                server.log()
            ),
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.log.path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("the end of the server's log:\n{}", shown.join("\n"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Stops it with SIGTERM. That it has ended before, or does not end now, is an error.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself: {status}\n{}", self.log());
        }
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + STOP;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the server does not stop\n{}", self.log());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, so that the server never waits for a reader.
fn read_output(stdout: ChildStdout, announce: oneshot::Sender<String>) {
    let mut announce = Some(announce);
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some((_, url)) = line.split_once(" is listening on ")
            && let Some(announce) = announce.take()
        {
            // Nobody waits any more once the time is up.
            let _ = announce.send(url.trim().to_owned());
        }
    }
}
