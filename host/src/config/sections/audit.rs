//! `[audit]`

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Where it is written who changed what and who was refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The file; none: nowhere.
    pub path: Option<PathBuf>,
}
