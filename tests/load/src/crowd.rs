//! Many clients at once.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::{
    client::Client,
    cores,
    faults::Faults,
    target::Target,
    transport::{Connected, Transport},
};

/// How many handshakes are under way at once.
const AT_ONCE: usize = 32;

/// Connects so many users over websockets, numbered from `first`.
pub async fn connect(target: &Arc<Target>, first: u64, count: usize) -> Result<Vec<Client>> {
    let clients = connect_over(Transport::Websocket, target, first, count).await?;
    let websocket = |client| match client {
        Connected::Websocket(client) => Some(client),
        Connected::Polling(_) => None,
    };
    Ok(clients.into_iter().filter_map(websocket).collect())
}

/// Connects so many users, numbered from `first`.
pub async fn connect_over(
    transport: Transport,
    target: &Arc<Target>,
    first: u64,
    count: usize,
) -> Result<Vec<Connected>> {
    cores::check_room_for(count)?;
    let next = Arc::new(AtomicU64::new(first));
    let end = first + count as u64;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE.min(count) {
        let (target, next) = (target.clone(), next.clone());
        tasks.spawn(async move {
            let mut clients = Vec::new();
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id >= end {
                    return Ok(clients);
                }
                let token = target.token(id);
                let client = transport.connect(&target, id, &token).await;
                clients.push(client.with_context(|| format!("user {id} cannot connect"))?);
            }
        });
    }
    let mut clients = Vec::with_capacity(count);
    while let Some(connected) = tasks.join_next().await {
        let connected: Result<Vec<Connected>> = connected?;
        clients.append(&mut connected?);
    }
    Ok(clients)
}

/// The sum of what went wrong in all tasks.
pub async fn faults(mut tasks: JoinSet<Faults>) -> Result<Faults> {
    let mut sum = Faults::default();
    while let Some(faults) = tasks.join_next().await {
        sum += faults?;
    }
    Ok(sum)
}

/// Closes clients that are of no use any more.
pub async fn close(clients: Vec<Connected>) {
    for client in clients {
        // One that is closed already is fine: whoever cares has counted it.
        let _ = client.close().await;
    }
}
