//! Quantities as people write them, parsed once: durations `"30s"`, sizes `"64MiB"`, rates
//! `"100/10s"`.

pub mod duration;
mod rate;
mod size;

pub use rate::Rate;
pub use size::Size;

/// A quantity that is not written as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {text}: {reason}")]
pub struct UnitError {
    what: &'static str,
    /// As it was written, with its quotes if it had any.
    text: String,
    reason: String,
}

impl UnitError {
    fn new(what: &'static str, text: impl std::fmt::Debug, reason: impl Into<String>) -> Self {
        Self {
            what,
            text: format!("{text:?}"),
            reason: reason.into(),
        }
    }
}
