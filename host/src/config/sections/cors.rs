//! `[cors]`: which other sites' pages may connect.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Origin;

/// `[cors]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Sites whose pages may connect, beside pages from the server itself.
    pub allowed_origins: Vec<Origin>,
    /// Whether connections from pages of other sites are refused.
    pub check_origins: bool,
}
