//! What the reload task is asked to do, and what comes of it.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

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
