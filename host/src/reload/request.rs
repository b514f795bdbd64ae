//! What the reload task is asked to do, and what comes of it.

use std::{fmt, sync::Arc};

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
    RollBack(String),
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
    /// It cannot be loaded.
    #[error("the plugin was refused: {0}")]
    Refused(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refresh => f.write_str("all files are looked at"),
            Self::Reload(name) => write!(f, "the plugin {name} is reloaded"),
            Self::RollBack(name) => write!(f, "the plugin {name} is rolled back"),
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
            Asked::RollBack(name) => self.roll_back(self.index_of(name)?, by).await?,
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

    /// Has the former version serve again; says why if it does not.
    async fn roll_back(
        &mut self,
        index: usize,
        by: Arc<str>,
    ) -> Result<(Loaded, Option<String>), NotDone> {
        let former = self.slots[index].former().ok_or(NotDone::NoFormer)?;
        let refusal = match self.put_in_place(former, index, Some(by.clone())).await {
            Ok(loaded) => return Ok((loaded, None)),
            Err(refusal) => refusal,
        };
        let (slot, reason) = (&mut self.slots[index], refusal.reason());
        let plugin = slot.name();
        tracing::warn!(plugin, by = &*by, "it is not rolled back: {reason}");
        self.targets
            .audit
            .write(|| Entry::PluginRefused { plugin, reason });
        slot.rollback_refused(reason, by);
        Ok((Loaded::default(), Some(reason.to_owned())))
    }
}
