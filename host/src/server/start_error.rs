//! Why a server does not start.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{
    config::{HOW_TO_MAKE_ONE, MIN_JWT_SECRET_BYTES},
    native,
    tls::CertificateError,
};

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody could tell a good token from a forged one.
    #[error(
        "{0} can be reached from other machines and JWT_SECRET is not set: set it, or listen on \
         127.0.0.1"
    )]
    NoSecret(SocketAddr),
    /// Everybody could forge tokens who tries enough secrets.
    #[error(
        "{0} can be reached from other machines and JWT_SECRET has less than {MIN_JWT_SECRET_BYTES} \
         bytes (RFC 7518, section 3.2): {HOW_TO_MAKE_ONE}; or listen on 127.0.0.1"
    )]
    ShortSecret(SocketAddr),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Clients cannot be shown who the server is.
    #[error("[tls] {0}")]
    Tls(#[from] CertificateError),
    /// A plugin that is loaded once does not come from where it is.
    #[error("{0}")]
    NotPulled(String),
    /// What is to be written down could not be.
    #[error("the audit log {}: {source}", path.display())]
    Audit {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The WebAssembly engine does not start on this machine.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The program that embeds the server has built a native endpoint that cannot be served.
    #[error("the native endpoint {path:?} cannot be served: {source}")]
    Native {
        /// As it was given.
        path: String,
        /// Why.
        source: native::EndpointError,
    },
    /// A path is there twice: an endpoint's path is one of the host's own, or a route of the program that
    /// embeds the server is.
    #[error("{what} cannot be served beside the others: {reason}")]
    Routes {
        /// Whose routes.
        what: String,
        /// In axum's words.
        reason: String,
    },
}
