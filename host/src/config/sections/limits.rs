//! `[limits]`: how often clients may send and connect, and what becomes of events over a limit.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Network, choice::choice};
use crate::units::Rate;

/// `[limits]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How often one connection may send events, all events together.
    pub socket: Option<Rate>,
    /// How often one user may, over all connections.
    pub user: Option<Rate>,
    /// How often one IP address may.
    pub ip: Option<Rate>,
    /// How often one IP address may connect.
    pub connections: Option<Rate>,
    /// Whether all servers of a cluster count the events of users and addresses together.
    pub shared: bool,
    /// What becomes of events over a limit.
    pub on_excess: OnExcess,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
}

/// `on_excess`: what becomes of an event over a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum OnExcess {
    /// The client is told.
    #[default]
    Answer,
    /// It is counted, and the client told only if it asked for an ack.
    Drop,
}

impl TryFrom<String> for OnExcess {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "policy",
            &text,
            &[("answer", Self::Answer), ("drop", Self::Drop)],
        )
    }
}
