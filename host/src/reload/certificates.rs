//! Certificates follow their files, as plugins do.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;

use super::{
    Files,
    file::{Followed, Stamp},
};
use crate::{
    config,
    metrics::{CERTIFICATES, Metrics},
    tls::{self, CertificateError, Identity},
};

/// How often the log says what is wrong with the certificates that are in force.
const REMINDER_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The certificates that are in force, and the files that they came from.
pub(super) struct Certificates {
    published: tls::Current,
    /// What the configuration said when they were last read.
    config: config::Tls,
    /// Certificates and keys, with what is known of each.
    files: Vec<(PathBuf, Followed)>,
    /// Why the files as they are now are not in force.
    error: Option<String>,
    reminder: Reminder,
}

/// When the log said last what is wrong with the certificates that are in force.
struct Reminder(Instant);

impl Reminder {
    /// Whether it is to be said again.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.0) >= REMINDER_INTERVAL;
        if is_due {
            self.0 = now;
        }
        is_due
    }
}

impl Certificates {
    /// Follows the files of certificates that were read while nobody followed them.
    pub(super) fn new(published: tls::Current, config: config::Tls) -> Self {
        Self {
            published,
            files: files(&config),
            config,
            error: None,
            reminder: Reminder(Instant::now()),
        }
    }

    /// Says from time to time that a certificate is about to expire, or has: whoever was to renew it may
    /// not be at work.
    pub(super) fn remind(&mut self, now: Instant) {
        if self.reminder.is_due(now) {
            self.published.load().warn_of_doubts();
        }
    }

    /// The files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|(path, _)| path)
    }

    /// What is known of each of them.
    pub(super) fn known(&self) -> impl Iterator<Item = &Followed> {
        self.files.iter().map(|(_, known)| known)
    }

    /// Why the newest files are not in force.
    pub(super) fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    /// Reads the files that this configuration names if they have changed, or if it names others.
    pub(super) async fn follow(&mut self, config: &config::Tls, which: Files, metrics: &Metrics) {
        let is_new = (&self.config.certificates, self.config.min_version)
            != (&config.certificates, config.min_version);
        if is_new {
            self.files = files(config);
        }
        self.config = config.clone();
        let paths: Vec<PathBuf> = self.paths().cloned().collect();
        // Before they are read: what changes meanwhile shows.
        let looking = spawn_blocking(move || {
            let stamps = paths.iter().map(|path| Stamp::of(path, &[]));
            stamps.collect::<Vec<_>>()
        });
        let Ok(stamps) = looking.await else {
            return;
        };
        let mut known = self.files.iter().zip(&stamps);
        if which == Files::Changed && !known.any(|((_, known), now)| known.is_due(now.as_ref())) {
            return;
        }
        let read = Identity::read(config.clone()).await;
        for ((_, known), stamp) in self.files.iter_mut().zip(stamps) {
            match &read {
                Err(error) if error.is_passing() => known.forget(),
                Ok(_) | Err(_) => known.dealt_with(stamp),
            }
        }
        match read {
            Ok(identity) => self.take(identity, metrics),
            Err(error) => self.refuse(&error, metrics),
        }
    }

    fn take(&mut self, identity: Identity, metrics: &Metrics) {
        self.error = None;
        if identity.is_same(&self.published.load()) {
            return;
        }
        metrics.reloaded(CERTIFICATES, true);
        metrics.show_certificates(&identity);
        identity.warn_of_doubts();
        self.published.store(identity.into());
        tracing::info!("new connections are shown the new certificates");
    }

    /// Two files are never replaced at the same moment, so this may be over in the next.
    fn refuse(&mut self, error: &CertificateError, metrics: &Metrics) {
        let error = error.to_string();
        if self.error.as_ref() == Some(&error) {
            return;
        }
        metrics.reloaded(CERTIFICATES, false);
        tracing::error!("the former certificates stay in force: {error}");
        self.error = Some(error);
    }
}

fn files(config: &config::Tls) -> Vec<(PathBuf, Followed)> {
    let certificates = config.certificates.iter();
    let paths = certificates.flat_map(|files| [&files.certificate, &files.key]);
    paths
        .map(|path| (path.clone(), Followed::default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_once_a_day() {
        let began = Instant::now();
        let mut reminder = Reminder(began);
        let due = [1, 23, 24, 25, 47, 48].map(|hours: u64| {
            let now = began + Duration::from_secs(hours * 60 * 60);
            reminder.is_due(now)
        });
        assert_eq!(due, [false, false, true, false, false, true]);
    }
}
