//! `[api]`: the HTTP API for backends.

use crate::config::ApiKey;
use crate::units::Size;

/// `[api]`
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// The keys of the file and, if set, `MIXLAB_API_KEY` with all rights. No two are the same.
    pub keys: Vec<ApiKey>,
    /// The largest body of a request.
    pub max_body: Size,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            max_body: Size::new(1_000_000),
        }
    }
}
