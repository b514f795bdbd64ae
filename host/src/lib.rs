//! MixLab: a Socket.IO server whose events are hot-reloaded WebAssembly plugins.
//!
//! In the order of an event's way: [`server`] puts everything together; `transport` moves bytes and
//! packets; `socket` decides who may come in, and `directory` has the open namespaces; `dispatch` looks
//! the event up in the `registry`, has it checked by `admission`, calls its `plugin`, which may ask for
//! each `capability` it is granted, and performs the `effect`s. `reload` publishes new registries.
//! [`broadcast`] is what backends (`api`), plugins and Rust programs push with.
//!
//! Public is what a program needs that embeds the server, or that reads its configuration and inspects
//! plugins as the command line does.
//!
#![doc = include_str!("../docs/running/embedding.md")]
#![warn(unreachable_pub)]

mod access;
mod address;
mod admin;
mod admission;
mod api;
mod audit;
pub mod auth;
pub mod broadcast;
mod capability;
pub mod cli;
mod clock;
mod cluster;
pub mod config;
mod connection;
mod contracts;
mod deadlines;
mod declared;
mod directory;
mod dispatch;
mod effect;
mod error;
pub mod grant;
mod guest;
mod handover;
mod harmless;
mod history;
mod host_header;
mod http_client;
mod id;
pub mod inspection;
#[cfg(test)]
mod interleave;
mod listing;
mod log_writer;
mod memory;
mod message;
mod metrics;
mod msgpack;
mod namespace;
pub mod native;
mod oci;
mod ordered_lock;
mod origins;
mod panics;
mod plugin;
mod presence;
mod private_file;
mod rarely;
mod recent_log;
mod record;
mod recovery;
mod redis_access;
mod registry;
mod reload;
mod reserved;
mod revocation;
mod secrets;
mod selected;
pub mod server;
mod settings;
mod shares;
mod shorten;
mod socket;
mod store;
mod suggest;
mod tasks;
mod telemetry;
mod timers;
mod tls;
mod transport;
mod trial;
pub mod units;
pub mod user;
mod web;
mod webhooks;

/// The versions that the interface for embedders is made of.
pub use {axum, socketioxide};
