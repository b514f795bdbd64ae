//! Why a configuration was refused.

use std::path::PathBuf;

/// One readable message: what is wrong, and the line or the variable where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("{}: no such file; name another with --config", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Something in the file is wrong: its syntax, a key or a value.
    #[error("{}{}: {message}", .path.display(), .line.map(|line| format!(":{line}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1. None if what is wrong stands nowhere.
        line: Option<usize>,
        /// What is wrong, with the key it is about.
        message: String,
    },
    /// An environment variable or an option of the command line is wrong.
    #[error("{name}: {message}")]
    Override {
        /// The variable, or the option with its dashes.
        name: String,
        /// What is wrong.
        message: String,
    },
}
