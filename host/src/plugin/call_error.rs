//! Why a plugin gave no answer.

use std::{any::Any, io, time::Duration};

use rustix::io::Errno;
use wasmtime::{OutOfMemory, Trap};

use super::script::ScriptFailed;
use super::{breaker::Paused, instance::Misfit};
use crate::{capability::OverBudget, panics};

/// What frames of the component are called that runs scripts.
const SCRIPT_RUNTIME: &str = "mixlab_script_runtime.wasm";

/// What is said of a script that has used up the stack where its engine does not look. The frames of such traps are the
/// engine's, and nobody knows the line.
const ENGINE_STACK: &str = "RangeError: the stack is used up within a function of the engine's own, as by JSON.parse or \
     JSON.stringify of what is nested some thousand levels deep";

/// What is said of one that has no memory for what the host hands it.
const NO_ROOM: &str =
    "out of memory: its files, or what it is sent, do not fit into the budget memory";

/// The reason of one that says so itself.
pub(crate) const GAVE_UP: &str = "gave_up";

/// Why a plugin gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It took too long.
    #[error("the budget {budget} = {allowed} is used up")]
    Timeout {
        /// `cpu` or `wall`.
        budget: &'static str,
        /// Its value.
        allowed: String,
    },
    /// It used too much of something else.
    #[error(transparent)]
    OverBudget(OverBudget),
    /// Its exports have other types than the contract says.
    #[error("its types do not fit: {0}")]
    Misfit(String),
    /// It trapped.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It is a script, and says itself where it failed for good.
    #[error("{0}")]
    Script(String),
    /// It answered with something that its contract does not allow.
    #[error("{0}")]
    Invalid(String),
    /// It says itself that the fault is its own, or its grants': mostly, what the host refused it.
    #[error("it gave up: {0}")]
    GaveUp(String),
    /// It keeps failing and is not called for a while.
    #[error("it is paused, because its calls kept failing")]
    Paused(Paused),
    /// Others held all instances for too long.
    #[error("all of its instances were busy")]
    Busy,
    /// The machine has nothing left for another instance.
    #[error(
        "the machine has nothing left for another instance, which takes 4 GiB of addresses for each of \
         its memories and more (`ulimit -v` has to allow that): {0}"
    )]
    Exhausted(String),
    /// What it read kept changing, however often it was run again.
    #[error("what it read from the store kept changing")]
    Conflict,
    /// Its plugin has been replaced by a version that stores otherwise: it is for that one.
    #[error("its plugin has been replaced by a version that stores otherwise")]
    Outdated,
    /// What it was for is done, or gone: nothing of it counts.
    #[error("it is not wanted any more")]
    Superseded,
    /// The store did not take what it wrote.
    #[error("the store is not available: {0}")]
    Store(String),
    /// Nobody knows what becomes of what it wrote.
    #[error("the store does not answer, and nobody knows what becomes of what was written")]
    Overdue,
    /// No instance could be had.
    #[error("no instance: {0}")]
    Unavailable(String),
    /// The host's own fault.
    #[error("the host panicked: {0}")]
    Host(String),
}

impl CallError {
    /// A fixed word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout { budget, .. } | Self::OverBudget(OverBudget { budget, .. }) => budget,
            Self::Misfit(_) => "types",
            Self::Trap(_) | Self::Script(_) => "trap",
            Self::Invalid(_) => "invalid",
            Self::GaveUp(_) => GAVE_UP,
            Self::Paused(_) => "paused",
            Self::Busy => "busy",
            Self::Exhausted(_) => "exhausted",
            Self::Conflict => "conflict",
            Self::Outdated => "outdated",
            Self::Superseded => "superseded",
            Self::Store(_) => "store",
            Self::Overdue => "overdue",
            Self::Unavailable(_) => "unavailable",
            Self::Host(_) => "host",
        }
    }

    /// Why a guest trapped: a budget by name, else the trap. `boundary_bytes` is what the budget
    /// `boundary` allows.
    pub fn of_trap(error: &wasmtime::Error, boundary_bytes: usize) -> Self {
        if let Some(OverBudget { budget, allowed }) = error.downcast_ref() {
            return Self::OverBudget(OverBudget {
                budget,
                allowed: allowed.clone(),
            });
        }
        if let Some(Misfit(types)) = error.downcast_ref() {
            return Self::Misfit(types.clone());
        }
        if let Some(ScriptFailed(text)) = error.downcast_ref() {
            return Self::Script(text.clone());
        }
        if is_exhaustion(error) {
            return Self::Exhausted(format!("{error:#}"));
        }
        let text = with_causes(error);
        // wasmtime has no type for this one.
        if text.contains("fuel allocated for hostcalls has been exhausted") {
            return Self::OverBudget(OverBudget::bytes("boundary", boundary_bytes));
        }
        match of_engine(error, &text) {
            Some(text) => Self::Script(text.to_owned()),
            None => Self::Trap(text),
        }
    }

    /// A budget of time is used up.
    pub fn out_of_time(budget: &'static str, allowed: Duration) -> Self {
        Self::Timeout {
            budget,
            allowed: humantime::format_duration(allowed).to_string(),
        }
    }

    /// The plugin's generation has gone in the midst of the call.
    pub fn replaced() -> Self {
        Self::Unavailable("replaced, and the call did not end in time".to_owned())
    }

    /// The host panicked.
    pub fn of_panic(panic: &(dyn Any + Send)) -> Self {
        Self::Host(panics::message(panic))
    }
}

/// What a trap within the component that runs scripts stands for, if that is known by its frames.
fn of_engine(error: &wasmtime::Error, frames: &str) -> Option<&'static str> {
    if !frames.contains(SCRIPT_RUNTIME) {
        return None;
    }
    match error.downcast_ref()? {
        Trap::StackOverflow => Some(ENGINE_STACK),
        Trap::UnreachableCodeReached if frames.contains("cabi_realloc") => Some(NO_ROOM),
        _ => None,
    }
}

/// A trap with its frames and causes. Not by `{:?}`, which finds the names of the host's own frames
/// besides, in a tenth of a second and more, where `RUST_BACKTRACE` asks for some.
fn with_causes(error: &wasmtime::Error) -> String {
    let mut text = error.to_string();
    for (number, cause) in error.chain().skip(1).enumerate() {
        if number == 0 {
            text += "\n\nCaused by:";
        }
        text += &format!("\n    {cause}");
    }
    text
}

/// Whether something failed because the machine had no memory or the like for it, and not because of
/// what it was about.
pub(super) fn is_exhaustion(error: &wasmtime::Error) -> bool {
    error.is::<OutOfMemory>()
        || error.chain().any(|cause| {
            let errno = cause.downcast_ref::<Errno>().copied();
            let errno = errno.or_else(|| Errno::from_io_error(cause.downcast_ref::<io::Error>()?));
            errno.is_some_and(|errno| {
                [Errno::NOMEM, Errno::AGAIN, Errno::MFILE, Errno::NFILE].contains(&errno)
            })
        })
}
