//! When the files are looked at: soon after a change, when they have come to rest, and once a second all the same.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Files, Reloader,
    certificates::Certificates,
    file::Stamp,
    request::Request,
    slot::Slot,
    watch::{Changed, Watch},
};

/// How often the files are looked at even without an event: for folders that did not exist,
/// network file systems, and whatever else a watcher does not see.
const SWEEP: Duration = Duration::from_secs(1);

/// Files that never come to rest are read after so many debounce times all the same.
const MAX_DEBOUNCES: u32 = 20;

/// A script is read so soon after it was saved: editors write it in one go, and what is read halfway is
/// refused, and read again.
const SCRIPT_DEBOUNCE: Duration = Duration::from_millis(15);

/// So many changes wait to be told of, before it is enough to know that there are some.
const CHANGES: usize = 64;

impl Reloader {
    /// Follows the files until `stop`.
    pub(crate) async fn run(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        stop: &CancellationToken,
    ) {
        let (events, mut changes) = mpsc::channel(CHANGES);
        let mut watch = Watch::new(events);
        watch.follow(self.paths());
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Option<Pending> = None;
        loop {
            let debounce = self.config.reload.debounce;
            let due = pending.as_ref().map(|pending| pending.due(debounce));
            tokio::select! {
                () = stop.cancelled() => return,
                Some(changed) = changes.recv() => {
                    pending.get_or_insert_with(|| Pending::new(changed)).touch(changed);
                }
                _ = sweep.tick() => {
                    if pending.is_none() && self.changed_on_disk().await {
                        pending = Some(Pending::new(Changed::Files));
                    }
                    watch.follow(self.paths());
                    self.limits.forget_idle();
                    if let Some(certificates) = &mut self.certificates {
                        certificates.remind(Instant::now());
                    }
                }
                Some(Request { asked, by, answer }) = requests.recv() => {
                    let done = self.perform(&asked, by).await;
                    // Whoever asked may have gone.
                    let _ = answer.send(done);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    pending = None;
                    self.follow(Files::Changed, None).await;
                    watch.follow(self.paths());
                }
            }
        }
    }

    /// The files to be watched.
    fn paths(&self) -> Vec<PathBuf> {
        let config = self.source.iter().map(|source| source.path.clone());
        let of_slot = |slot: &Slot| {
            let imports = slot.imports().iter().cloned();
            imports.chain([slot.path().to_owned()]).collect::<Vec<_>>()
        };
        let certificates = self.certificates.iter().flat_map(Certificates::paths);
        let config = config.chain(certificates.cloned());
        config.chain(self.slots.iter().flat_map(of_slot)).collect()
    }

    /// Whether some file has to be dealt with, whatever the watcher saw.
    async fn changed_on_disk(&self) -> bool {
        let config = self.source.iter();
        let config = config.map(|source| (source.path.clone(), Vec::new()));
        let certificates = self.certificates.iter().flat_map(Certificates::paths);
        let certificates = certificates.map(|path| (path.clone(), Vec::new()));
        let slots = self.slots.iter();
        let slots = slots.map(|slot| (slot.path().to_owned(), slot.imports().to_vec()));
        let files: Vec<(PathBuf, Vec<PathBuf>)> = config.chain(certificates).chain(slots).collect();
        // A folder on a network may take its time.
        let looking = tokio::task::spawn_blocking(move || {
            let files = files.iter();
            files
                .map(|(path, imports)| Stamp::of(path, imports))
                .collect::<Vec<_>>()
        });
        let Ok(stamps) = looking.await else {
            return true;
        };
        let config = self.source.iter().map(|_| &self.config_file);
        let certificates = self.certificates.iter().flat_map(Certificates::known);
        let slots = self.slots.iter().map(Slot::file);
        let files = config.chain(certificates).chain(slots);
        files
            .zip(&stamps)
            .any(|(file, stamp)| file.is_due(stamp.as_ref()))
    }
}

/// Changes that wait for the files to come to rest.
struct Pending {
    first: Instant,
    last: Instant,
    changed: Changed,
}

impl Pending {
    fn new(changed: Changed) -> Self {
        let now = Instant::now();
        Self {
            first: now,
            last: now,
            changed,
        }
    }

    fn touch(&mut self, changed: Changed) {
        self.last = Instant::now();
        if changed == Changed::Files {
            self.changed = changed;
        }
    }

    fn due(&self, debounce: Duration) -> Instant {
        let debounce = match self.changed {
            Changed::Scripts => debounce.min(SCRIPT_DEBOUNCE),
            Changed::Files => debounce,
        };
        (self.last + debounce).min(self.first + debounce * MAX_DEBOUNCES)
    }
}
