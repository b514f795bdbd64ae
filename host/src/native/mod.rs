//! Native handlers: Socket.IO endpoints of a program that embeds the server, beside the plugins' endpoint,
//! whose events are handled by socketioxide's own handlers and extractors.
//!
//! Sessions are socketioxide's here, and not those of `transport::engine`. What stands before them is
//! the host's: who may come (`front`), who is let into a namespace (`check`) and the host's own events
//! (`events`); so are the ends of connections (`carrier`, `client`). What pushes to clients, or counts
//! them, reaches these by `clients`.

mod carrier;
mod check;
mod client;
mod clients;
mod endpoint;
mod events;
mod front;

pub use endpoint::{Endpoint, EndpointError};
pub(crate) use {clients::Clients, endpoint::Setup, front::Front};

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::{audit::Audit, deadlines::TokenDeadlines, metrics::Metrics, settings};

/// What the handlers of all endpoints have of the server.
pub(crate) struct Host {
    /// Who may come in.
    pub settings: settings::Current,
    /// Counts who does.
    pub metrics: Arc<Metrics>,
    /// Who was refused.
    pub audit: Audit,
    /// When the tokens of users expire.
    pub deadlines: Arc<TokenDeadlines>,
    /// The clients that are here.
    pub present: TaskTracker,
}
