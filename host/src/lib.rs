//! MixLab: a Socket.IO server whose events are hot-reloaded WebAssembly plugins.
//!
//! In the order of an event's way:
//! [`server`] puts everything together; [`transport`] moves bytes and packets; [`socket`] holds
//! our socketioxide handlers, and [`directory`] the open namespaces; [`dispatch`] looks the event up in the [`registry`], has it checked
//! by [`admission`], calls its [`plugin`], which may ask for each [`capability`] it is granted,
//! and performs the [`effect`]s. [`reload`] publishes new registries. [`broadcast`] is what
//! backends ([`api`]), plugins and Rust programs push with.
//!
//! A program that embeds the server:
//!
//! ```no_run
//! use mixlab::{config::Config, server::Server};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::start(Config::default(), None).await?;
//! let broadcast = server.broadcast();
//! tokio::spawn(server.run(std::future::pending()));
//! let payment = serde_json::value::to_raw_value(&serde_json::json!({ "status": "paid" }))?;
//! println!("{} clients know", broadcast.broadcast_payment_update(&payment).delivered);
//! # Ok(())
//! # }
//! ```

pub mod access;
mod address;
pub mod admission;
pub mod api;
pub mod auth;
pub mod broadcast;
pub mod capability;
pub mod cli;
pub mod config;
pub mod connection;
mod deadlines;
pub mod directory;
pub mod dispatch;
pub mod effect;
pub mod error;
pub mod grant;
pub mod guest;
mod host_header;
mod id;
pub mod inspection;
mod memory;
pub mod message;
pub mod metrics;
pub mod namespace;
mod origins;
mod panics;
pub mod plugin;
pub mod recovery;
pub mod registry;
pub mod reload;
pub mod server;
pub mod settings;
mod shorten;
pub mod socket;
mod sockets;
mod suggest;
mod tasks;
pub mod transport;
pub mod units;
pub mod user;
pub mod web;
