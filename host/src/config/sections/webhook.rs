//! `plugins.webhook`: whose webhooks a plugin takes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Secret, choice::choice};
use crate::units::{Rate, Size};

/// `plugins.webhook`
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// How it is known who sends; none if anybody may.
    pub verification: Option<Verification>,
    /// The largest body.
    pub max_body: Size,
    /// How many one address may send.
    pub limit: Rate,
}

/// How it is known who sends a webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// How it is signed.
    pub scheme: Scheme,
    /// With one of these. If there is none, nobody's webhooks are taken.
    pub secrets: Vec<Secret>,
    /// The environment variables that should hold some more, and are not set.
    pub missing: Vec<String>,
    /// How long ago.
    pub max_age: Duration,
    /// How long it is remembered which deliveries came.
    pub remember: Duration,
}

/// `plugins.webhook.verify`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, rename_all = "lowercase")]
pub enum Scheme {
    /// Standard Webhooks.
    Standard,
    /// GitHub's.
    Github,
    /// Stripe's.
    Stripe,
}

impl TryFrom<String> for Scheme {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        choice(
            "scheme",
            &text,
            &[
                ("standard", Self::Standard),
                ("github", Self::Github),
                ("stripe", Self::Stripe),
            ],
        )
    }
}

impl Webhook {
    /// How old a signature may be, unless the file says otherwise.
    pub const MAX_AGE: Duration = Duration::from_secs(5 * 60);

    /// How long deliveries are remembered, unless the file says otherwise: as long as senders try again.
    pub const REMEMBER: Duration = Duration::from_secs(3 * 24 * 60 * 60);
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            verification: None,
            max_body: Size::mib(1),
            limit: Rate::new(1000, Duration::from_secs(60)).expect("it is a rate"),
        }
    }
}
