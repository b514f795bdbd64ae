//! What each table of `mixlab.toml` means: one file a table, with its defaults.
//!
//! Where a table is written in another form than it has when it is read, its `…File` stands beside it or
//! in [`super::file`], and [`super::resolve`] makes the one of the other.

pub(super) mod admin;
mod api;
mod audit;
mod auth;
mod breaker;
pub(super) mod budget;
mod cluster;
mod console;
mod cors;
mod filter;
mod history;
mod limits;
mod log;
mod payments;
mod plugin;
mod presence;
mod recovery;
mod reload;
mod runtime;
mod shutdown;
mod socket;
mod store;
pub(super) mod telemetry;
mod tls;
mod web;
mod webhook;

pub use admin::{Admin, AdminMode, PasswordHash};
pub use api::Api;
pub use audit::Audit;
pub use auth::{Auth, FormerSecret, Issuer};
pub use breaker::Breaker;
pub use budget::Budget;
pub use cluster::{Accept, Cluster, OnLoss, RedisUrl, Serial, ServerAddress, Unsigned};
pub use console::Console;
pub use cors::Cors;
pub use filter::{Filter, FilterFailure};
pub use history::History;
pub use limits::{Limits, OnExcess};
pub use log::{Log, LogFormat, LogLevel};
pub use payments::Payments;
pub use plugin::{HttpRule, OnFailure, Plugin, PulledFrom};
pub use presence::Presence;
pub use recovery::Recovery;
pub use reload::Reload;
pub use runtime::Runtime;
pub use shutdown::Shutdown;
pub use socket::{SlowClient, Socket};
pub use store::{Durability, Store, StoreOn};
pub use telemetry::Telemetry;
pub use tls::{Certificate, Tls, TlsVersion};
pub use web::Web;
pub use webhook::{Scheme, Verification, Webhook};
