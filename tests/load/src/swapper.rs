//! Replaces the plugin's file, and waits until the server has noticed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use crate::{
    backend::Backend, placements::Placements, report::Report, sandbox::REPLACED, versions::Versions,
};

/// How long the server may take to serve a new version, or to refuse a broken one. Far more than
/// it needs: a version that never serves is a fault, a slow machine is not.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the server is asked whether it has refused a file.
const LOOK: Duration = Duration::from_millis(20);

/// Every so many swaps go back to the version before: content comes back that was there already.
const BACK_EVERY: usize = 5;

/// The hand that replaces.
pub struct Swapper {
    versions: Versions,
    placements: Arc<Placements>,
    backend: Backend,
    /// The newest version, and the two that were put in place last.
    newest: u32,
    former: u32,
    current: u32,
    times: Vec<Duration>,
    refused: usize,
}

impl Swapper {
    /// Version 1 serves.
    pub fn new(versions: Versions, placements: Arc<Placements>, backend: Backend) -> Self {
        Self {
            versions,
            placements,
            backend,
            newest: 1,
            former: 1,
            current: 1,
            times: Vec::new(),
            refused: 0,
        }
    }

    /// The server's other door.
    pub fn backend(&mut self) -> &mut Backend {
        &mut self.backend
    }

    /// How many versions were put in place.
    pub fn swaps(&self) -> usize {
        self.times.len()
    }

    /// Puts another version in place, and waits for its first answer to anybody.
    pub async fn swap(&mut self) -> Result<()> {
        let version = if (self.swaps() + 1).is_multiple_of(BACK_EVERY) {
            self.former
        } else {
            self.newest += 1;
            self.newest
        };
        (self.former, self.current) = (self.current, version);
        self.versions.stage(version)?;
        self.placements.announce(version);
        let put = Instant::now();
        self.versions.put()?;
        let answered = self.placements.answered(PATIENCE).await;
        let answered =
            answered.with_context(|| format!("swap {}, version {version}", self.swaps() + 1))?;
        self.times.push(answered - put);
        Ok(())
    }

    /// Puts a file in place that must be refused, and waits until it is.
    pub async fn put_broken(&mut self) -> Result<()> {
        let kind = self.versions.stage_broken(self.refused)?;
        self.versions.put()?;
        let began = Instant::now();
        while self.backend.plugin(REPLACED).await?.refusal.is_none() {
            if began.elapsed() > PATIENCE {
                bail!("the server has not refused a file in {PATIENCE:?}: {kind}");
            }
            sleep(LOOK).await;
        }
        self.refused += 1;
        Ok(())
    }

    /// Puts times and counts into a report.
    pub fn report(&self, report: &mut Report) {
        let mut times = self.times.clone();
        times.sort_unstable();
        if let Some(last) = times.len().checked_sub(1) {
            let quantile = |share: f64| times[(last as f64 * share).round() as usize];
            report.set_ms("switch_ms_p50", quantile(0.50));
            report.set_ms("switch_ms_p99", quantile(0.99));
            report.set_ms("switch_ms_max", quantile(1.0));
        }
        report.set("refused_swaps", self.refused);
    }
}
