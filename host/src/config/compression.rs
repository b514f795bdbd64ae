//! From which size on something is compressed.

use serde::Deserialize;

use crate::units::Size;

/// As Node's `threshold` has it.
const DEFAULT: Size = Size::new(1024);

/// `true`, `false` or a size: what has at least so many bytes is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Compression(Option<Size>);

impl Compression {
    /// Nothing is compressed.
    pub const OFF: Self = Self(None);

    /// What has at least so many bytes is compressed; none: nothing.
    pub fn threshold(self) -> Option<usize> {
        self.0.map(Size::as_usize)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true, false or a size like \"1KiB\"")]
enum Written {
    Switch(bool),
    From(Size),
}

impl From<Written> for Compression {
    fn from(written: Written) -> Self {
        match written {
            Written::Switch(true) => Self(Some(DEFAULT)),
            Written::Switch(false) => Self(None),
            Written::From(size) => Self(Some(size)),
        }
    }
}
