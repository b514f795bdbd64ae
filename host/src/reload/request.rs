//! What the reload task is asked to do, and what comes of it.

use std::{fmt, sync::Arc};

use serde::Deserialize;
use tokio::sync::oneshot;

use super::{Files, Reloader, loading::Loaded, matching::Matched};
use crate::{audit::Entry, config};

/// What somebody wants of the reload task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To look at all files now.
    Refresh,
    /// To load this plugin's file anew, whatever came of it before.
    Reload(String),
    /// To have the version serve that this plugin's serving one has replaced.
    RollBack(String, Step),
}

/// Which versions a roll back is meant for, by their generations, as far as that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Step {
    /// The one that serves.
    from: Option<u64>,
    /// The one that it has replaced.
    to: Option<u64>,
}

/// Asks the reload task for something; it is answered when that is done.
pub(crate) struct Request {
    pub(super) asked: Asked,
    pub(super) by: Arc<str>,
    pub(super) answer: oneshot::Sender<Result<(), NotDone>>,
}

/// Why it is not done. What served goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// There is no such plugin.
    #[error("no plugin in mixlab.toml has this name")]
    Unknown,
    /// There is one, and it is not to serve.
    #[error("the plugin is switched off in mixlab.toml")]
    Disabled,
    /// There is nothing to go back to.
    #[error(
        "no former version is kept: there is one when a version has replaced another since the server \
         started, and until it was rolled back"
    )]
    NoFormer,
    /// It was meant for others.
    #[error(
        "other versions are there by now: generation {from} serves, and would be rolled back to generation {to}"
    )]
    OtherVersions {
        /// The one that serves.
        from: u64,
        /// The one that it has replaced.
        to: u64,
    },
    /// It was rolled back, but what serves is newer.
    #[error("the plugin's file has changed meanwhile, and its new version serves")]
    FileChanged,
    /// It cannot be loaded.
    #[error("the plugin was refused: {0}")]
    Refused(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refresh => f.write_str("all files are looked at"),
            Self::Reload(name) => write!(f, "the plugin {name} is reloaded"),
            Self::RollBack(name, _) => write!(f, "the plugin {name} is rolled back"),
        }
    }
}

impl Request {
    /// What is wanted, by whom, e.g. the name of an API key; and where the answer comes.
    pub(crate) fn new(
        asked: Asked,
        by: impl Into<Arc<str>>,
    ) -> (Self, oneshot::Receiver<Result<(), NotDone>>) {
        let (answer, answered) = oneshot::channel();
        let by = by.into();
        (Self { asked, by, answer }, answered)
    }
}

impl Reloader {
    /// Does what somebody asks for.
    pub(super) async fn perform(&mut self, asked: &Asked, by: Arc<str>) -> Result<(), NotDone> {
        let (loaded, problem) = match asked {
            Asked::Refresh => {
                self.follow(Files::All, Some(by)).await;
                return Ok(());
            }
            Asked::Reload(name) => {
                let index = self.index_of(name)?;
                self.slots[index].start_over();
                let loaded = self.load(index, Files::All, Some(by)).await;
                (loaded, self.slots[index].problem().map(str::to_owned))
            }
            Asked::RollBack(name, step) => {
                return self.roll_back(self.index_of(name)?, step, by).await;
            }
        };
        self.settle(Matched::default(), loaded, Files::Changed)
            .await;
        match problem {
            None => Ok(()),
            Some(reason) => Err(NotDone::Refused(reason)),
        }
    }

    /// Which slot a plugin has that is switched on.
    fn index_of(&self, name: &str) -> Result<usize, NotDone> {
        let index = self.slots.iter().position(|slot| slot.name() == name);
        let is_named = |plugin: &config::Plugin| plugin.name == name;
        index.ok_or_else(|| match self.config.plugins.iter().any(is_named) {
            true => NotDone::Disabled,
            false => NotDone::Unknown,
        })
    }

    /// Has the former version serve again, if it is this step back; says why if it does not.
    async fn roll_back(&mut self, index: usize, step: &Step, by: Arc<str>) -> Result<(), NotDone> {
        let slot = &self.slots[index];
        let (former, to) = slot
            .former()
            .zip(slot.rollback_to())
            .ok_or(NotDone::NoFormer)?;
        let (from, to) = (slot.generation(), to.generation);
        if step.from.is_some_and(|it| it != from) || step.to.is_some_and(|it| it != to) {
            return Err(NotDone::OtherVersions { from, to });
        }
        match self.put_in_place(former, index, Some(by.clone())).await {
            Ok(loaded) => {
                let generation = self.slots[index].generation();
                // A file that was saved meanwhile is loaded with it.
                self.settle(Matched::default(), loaded, Files::Changed)
                    .await;
                match self.slots[index].generation() == generation {
                    true => Ok(()),
                    false => Err(NotDone::FileChanged),
                }
            }
            Err(refusal) => {
                let (slot, reason) = (&mut self.slots[index], refusal.reason());
                let plugin = slot.name();
                tracing::warn!(plugin, by = &*by, "it is not rolled back: {reason}");
                self.targets
                    .audit
                    .write(|| Entry::PluginRefused { plugin, reason });
                slot.rollback_refused(reason, by);
                let reason = reason.to_owned();
                self.settle(Matched::default(), Loaded::default(), Files::Changed)
                    .await;
                Err(NotDone::Refused(reason))
            }
        }
    }
}
