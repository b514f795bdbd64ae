//! `plugins.filter`: a plugin as a filter of events of others.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::choice::choice;

/// `plugins.filter`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// What becomes of an event when the plugin fails to filter it.
    pub on_failure: FilterFailure,
}

/// `plugins.filter.on_failure`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum FilterFailure {
    /// It is refused.
    #[default]
    Reject,
    /// It goes on as if the plugin had not been there.
    Allow,
}

impl TryFrom<String> for FilterFailure {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "policy",
            &text,
            &[("reject", Self::Reject), ("allow", Self::Allow)],
        )
    }
}
