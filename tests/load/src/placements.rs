//! Which version an answer may name: what was put in place, and what anybody has seen of it.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{sync::watch, time::timeout};

/// The versions put in place, one after the other, and the first answers of each.
///
/// A *placement* is one rename. The same version may be put in place again later, so placements
/// are counted, and a version is that of a placement.
pub struct Placements {
    /// The version of each placement so far. Neighbours differ.
    versions: Mutex<Vec<u32>>,
    /// The newest placement that has answered anybody.
    seen: AtomicUsize,
    /// The same, with the moment of its first answer.
    first_answer: watch::Sender<(usize, Instant)>,
}

impl Placements {
    /// The first version has been in service since before the first question.
    pub fn new(version: u32) -> Self {
        Self {
            versions: Mutex::new(vec![version]),
            seen: AtomicUsize::new(0),
            first_answer: watch::Sender::new((0, Instant::now())),
        }
    }

    /// A version is about to be put in place; from now on it may answer.
    pub fn announce(&self, version: u32) {
        let mut versions = self.versions.lock().expect("no holder panics");
        debug_assert_ne!(versions.last(), Some(&version));
        versions.push(version);
    }

    /// What whoever asks now may expect: this placement, or one after it.
    pub fn floor(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Judges an answer to a question that was asked when the floor was this: whether it names a
    /// version that was in place since then.
    pub fn allows(&self, floor: usize, version: u32) -> bool {
        let found = {
            let versions = self.versions.lock().expect("no holder panics");
            versions[floor..].iter().position(|other| *other == version)
        };
        let Some(found) = found else {
            return false;
        };
        let placement = floor + found;
        if self.seen.fetch_max(placement, Ordering::SeqCst) < placement {
            self.first_answer.send_replace((placement, Instant::now()));
        }
        true
    }

    /// Waits for the first answer of the newest placement; returns its moment.
    pub async fn answered(&self, patience: Duration) -> Result<Instant> {
        let newest = self.versions.lock().expect("no holder panics").len() - 1;
        let mut answers = self.first_answer.subscribe();
        let answered = answers.wait_for(|(placement, _)| *placement >= newest);
        match timeout(patience, answered).await {
            Ok(Ok(answer)) => Ok(answer.1),
            _ => bail!("the new version has not answered in {patience:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_version_may_answer_until_somebody_saw_the_new_one() {
        let placements = Placements::new(1);
        let early = placements.floor();
        assert!(placements.allows(early, 1));
        assert!(!placements.allows(early, 2), "not in place yet");
        placements.announce(2);
        assert!(placements.allows(early, 1));
        assert!(placements.allows(early, 2));
        assert!(
            placements.allows(early, 1),
            "asked before anybody saw version 2"
        );
        let late = placements.floor();
        assert!(!placements.allows(late, 1));
        assert!(!placements.allows(late, 3), "never in place");
        placements.announce(1);
        assert!(placements.allows(late, 1), "it is back");
        assert!(!placements.allows(placements.floor(), 2));
    }
}
