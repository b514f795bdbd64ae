//! A place in the history, as clients hold it.

use std::{fmt, str::FromStr};

/// A place in the history: behind the event with this number. Displays as what a client gets to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Which run of a server it is of, or [`COMMON`].
    pub(super) epoch: u64,
    pub(super) number: u64,
}

/// Which run positions are of that all servers of a cluster have in common.
pub(super) const COMMON: u64 = 0;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.number)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, number) = text.split_once('-').ok_or(())?;
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}
