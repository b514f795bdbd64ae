//! `[web]`: the files that are served.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// `[web]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// The folder of static files, if some are served.
    pub root: Option<PathBuf>,
    /// The folder of the stock client's bundle, if it is served.
    pub client: Option<PathBuf>,
}
