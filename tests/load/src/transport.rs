//! What carries Socket.IO, and clients over either.

use anyhow::Result;
use clap::ValueEnum;

use crate::{client::Client, polling::PollingClient, target::Target};

/// What carries Socket.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// From the first request on.
    Websocket,
    /// HTTP long-polling, without an upgrade.
    Polling,
}

/// A client that the main namespace has let in.
pub enum Connected {
    /// Over a websocket.
    Websocket(Client),
    /// Over polling.
    Polling(PollingClient),
}

impl Transport {
    /// Joins the main namespace as user `id`.
    pub async fn connect(self, target: &Target, id: u64, token: &str) -> Result<Connected> {
        Ok(match self {
            Self::Websocket => {
                Connected::Websocket(Client::connect(target, Some((id, token))).await?)
            }
            Self::Polling => Connected::Polling(PollingClient::connect(target, id, token).await?),
        })
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Polling => "polling",
        }
    }
}

impl Connected {
    /// Answers pings, until there is an error or something else comes.
    pub async fn idle(&mut self) -> Result<()> {
        match self {
            Self::Websocket(client) => client.idle().await,
            Self::Polling(client) => client.idle().await,
        }
    }

    /// Leaves the namespace and closes the session.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Websocket(client) => client.close().await,
            Self::Polling(client) => client.close().await,
        }
    }
}
