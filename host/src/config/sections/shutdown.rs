//! `[shutdown]`

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::duration;

/// Over which time a server of a cluster sends its clients away.
const DRAIN_IN_CLUSTER: Duration = Duration::from_secs(10);

/// `[shutdown]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long a server that is to leave says so before it takes no more clients.
    #[serde(deserialize_with = "duration::deserialize")]
    pub notice: Duration,
    /// Over which time its clients are sent away, if that is said.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub drain: Option<Duration>,
}

impl Shutdown {
    /// Over which time clients are sent away: at once, if no other server could take them.
    pub(crate) fn drain(&self, is_in_cluster: bool) -> Duration {
        let alone = Duration::ZERO;
        self.drain.unwrap_or(match is_in_cluster {
            true => DRAIN_IN_CLUSTER,
            false => alone,
        })
    }
}
