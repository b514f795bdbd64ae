//! Why a plugin cannot be loaded.

use tokio::task::JoinError;

use super::{
    call_error::CallError,
    imports::{ImportError, PACKAGE, VERSION},
    weight::TooMany,
};
use crate::panics::message;

/// The host's own version, for those who build plugins.
const HOST: &str = env!("CARGO_PKG_VERSION");

/// Why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The compiler took too long, now or when it met the same bytes before.
    #[error("it does not compile within the budget compile = {0}")]
    CompileTimeout(String),
    /// The compiler is busy with bytes that the file held before, which are over their budget.
    #[error("the compiler is still busy with what the file held before")]
    Compiling,
    /// The machine has no memory or the like for it right now.
    #[error("it cannot be compiled now: {0}")]
    Exhausted(String),
    /// The bytes are not a component.
    #[error("{0}")]
    NotAComponent(String),
    /// It is made of more parts than a component may be.
    #[error(transparent)]
    TooMany(TooMany),
    /// It does not fit this host, or is not let in.
    #[error(transparent)]
    Imports(ImportError),
    /// It asks clients, and none of its instances may wait for them.
    #[error(
        "it imports mixlab:plugin/ask, and instances = {0} leaves none that may wait for clients: \
         add asks = 1 to its budget, if clients that do not answer may stop it meanwhile"
    )]
    NoAsks(usize),
    /// It takes webhooks, and nobody would know from whom.
    #[error(
        "it takes webhooks, and nothing says who may send them: add verify and secret_env to \
         [plugins.webhook] in mixlab.toml, or \"webhook:unverified\" to its grants"
    )]
    Unverified,
    /// The store cannot be opened.
    #[error("it uses the store, which cannot be opened: {0}")]
    Store(String),
    /// It sends requests, and none of its calls may wait for them.
    #[error(
        "it sends requests, and instances = {0} leaves none that may wait for servers: add \
         requests = 1 to its budget, if a slow server may stop it meanwhile"
    )]
    NoRequests(usize),
    /// It fits by its names and not by its types: the number of the version says too little.
    #[error(
        "it is built for a {PACKAGE}@{VERSION} that is not the {PACKAGE}@{VERSION} which this host, \
         mixlab {HOST}, offers: {0}; build it again with the wit/ of this host"
    )]
    Types(String),
    /// It could not be started, or failed in `describe`.
    #[error("describe failed: {0}")]
    Describe(CallError),
    /// It refused: `describe` returned an error.
    #[error("it refused its configuration: {0}")]
    Refused(String),
    /// It is a script that cannot be run, or says itself where it failed.
    #[error("{0}")]
    Script(String),
    /// The host's own fault.
    #[error("the host panicked while loading it: {0}")]
    Panicked(String),
    /// The host stopped meanwhile.
    #[error("the host is shutting down")]
    Stopped,
}

impl LoadError {
    /// Why a task gave no answer.
    pub(super) fn unended(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => Self::Panicked(message(&*panic)),
            Err(_) => Self::Stopped,
        }
    }

    /// Whether the same bytes may load later, with nothing else changed.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Compiling
                | Self::Exhausted(_)
                | Self::Store(_)
                | Self::Stopped
                | Self::Describe(CallError::Exhausted(_))
        )
    }
}
