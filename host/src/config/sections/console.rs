//! `[console]`

use schemars::JsonSchema;
use serde::Deserialize;

/// `[console]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Whether the page for operators is served.
    pub enabled: bool,
}
