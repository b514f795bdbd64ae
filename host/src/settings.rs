//! What applies to connections and requests and may change while the server runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    access::Access,
    auth::Verifier,
    config::{ApiKey, Config},
};

/// A snapshot of those parts of the configuration that apply at once.
pub struct Settings {
    /// Checks tokens.
    pub verifier: Verifier,
    /// Whether a client may connect without a token.
    pub anonymous: bool,
    /// Who may subscribe to payments.
    pub payments: Access,
    /// How many events of one connection may wait.
    pub queue: usize,
    /// Backends that may push.
    pub api_keys: Vec<ApiKey>,
}

/// The current snapshot; a reload publishes a new one.
pub type Current = Arc<ArcSwap<Settings>>;

impl Settings {
    /// From a configuration; `secret` is what tokens are signed with.
    pub fn new(config: &Config, secret: &[u8]) -> Self {
        Self {
            verifier: Verifier::new(secret, &config.auth),
            anonymous: config.auth.anonymous,
            payments: config.payments.subscribe.clone(),
            queue: config.socket.queue,
            api_keys: config.api.keys.clone(),
        }
    }
}
