//! `[payments]`: the payment updates.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::Access;

/// `[payments]`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Payments {
    /// Who may subscribe to payment updates.
    pub subscribe: Access,
}

impl Default for Payments {
    fn default() -> Self {
        Self {
            subscribe: Access::Authenticated,
        }
    }
}
