//! Runs the work of this tool: on a core of its own or on all of them, and not for ever.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::cores;

/// Where work runs, and for how long at most.
#[derive(Debug, Clone, Copy)]
pub struct Drive {
    /// One thread on this core, or several on any.
    pub core: Option<usize>,
    /// How many threads there are without a core of their own.
    pub threads: usize,
    /// When to give up.
    pub max_time: Duration,
}

/// The load's core where the command line does not say another.
const LOAD_CORE: usize = 1;

impl Drive {
    /// The same, on a core of its own.
    pub fn on_core(&self) -> Self {
        Self {
            core: self.core.or(Some(LOAD_CORE)),
            ..*self
        }
    }

    /// Runs work to its end, on a runtime of its own.
    pub fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let before = cores::current()?;
        if let Some(core) = self.core {
            cores::pin_to(core).with_context(|| format!("core {core} is not there"))?;
        }
        let done = self.run_here(work);
        cores::pin_to_all(&before)?;
        done
    }

    /// The runtime's threads inherit the cores of this one.
    fn run_here<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let threads = match self.core {
            Some(_) => 1,
            None => self.threads.max(1),
        };
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?;
        let done = runtime.block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                done = timeout(self.max_time, work) => done.context("the time is up")?,
                _ = terminated.recv() => bail!("terminated"),
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    bail!("interrupted")
                }
            }
        });
        // Sockets that hang must not keep the tool from ending.
        runtime.shutdown_background();
        done
    }
}
