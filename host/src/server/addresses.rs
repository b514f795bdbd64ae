//! The addresses that a server listens on.

use std::{io, net::SocketAddr};

use tokio::task::spawn_blocking;

use super::{
    StartError,
    port::{Inherited, Port},
};
use crate::config::{Config, Listen};

/// The first address that can be had.
pub(super) async fn bind(config: &Config, inherited: &mut Inherited) -> Result<Port, StartError> {
    let addresses = addresses(config).await?;
    let bound = Port::bind(&addresses, inherited);
    bound.map_err(|source| listen_error(&config.listen, source))
}

/// What the address to listen on stands for. Only this machine may reach a server whose tokens
/// anybody could make.
pub(super) async fn addresses(config: &Config) -> Result<Vec<SocketAddr>, StartError> {
    let addresses = resolve(&config.listen).await?;
    let public = addresses.iter().find(|address| !address.ip().is_loopback());
    let Some(public) = public.filter(|_| config.auth.enabled) else {
        return Ok(addresses);
    };
    match &config.auth.secret {
        None if !config.auth.issuers.is_empty() => Ok(addresses),
        None => Err(StartError::NoSecret(*public)),
        Some(secret) if secret.is_short_for_hs256() => Err(StartError::ShortSecret(*public)),
        Some(_) => Ok(addresses),
    }
}

pub(super) async fn resolve(listen: &Listen) -> Result<Vec<SocketAddr>, StartError> {
    let resolving = listen.clone();
    let resolved = spawn_blocking(move || resolving.resolve()).await;
    let resolved = resolved.unwrap_or_else(|cancelled| Err(io::Error::other(cancelled)));
    resolved.map_err(|source| listen_error(listen, source))
}

pub(super) fn listen_error(listen: &Listen, source: io::Error) -> StartError {
    StartError::Listen {
        address: listen.to_string(),
        source,
    }
}
