//! Write MixLab plugins in Rust: typed Socket.IO event handlers that a running server loads,
//! checks and replaces as WebAssembly components.
//!
//! ```no_run
//! //! Answers `custom_event` with `custom_response`.
//! use mixlab_plugin::prelude::*;
//!
//! mixlab_plugin::export!(plugin);
//!
//! fn plugin(_config: &Config) -> Result<Plugin, String> {
//!     Ok(Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).event(
//!         Event::new("custom_event")
//!             .anyone()
//!             .limit(Scope::Socket, "100/10s")
//!             .handle(custom_event),
//!     ))
//! }
//!
//! fn custom_event(cx: &Context, data: Value) -> Result<Value, Rejection> {
//!     cx.emit("custom_response", &data)?;
//!     Ok(data)
//! }
//! # fn main() {}
//! ```
//!
//! Build it as a `cdylib` with `cargo build --release --target wasm32-wasip2` and put the `.wasm`
//! file into the server's plugin folder.
//!
//! - **An event is declared beside its handler**: who may send it, how often, how large it may be.
//!   The JSON Schemas of its arguments and of its ack come from the handler's types, and the host
//!   checks all of it before the plugin is called. Nobody but authenticated users may send an
//!   event that does not say otherwise.
//! - **An event is atomic.** Emits, joins, leaves and disconnects are recorded during the call and
//!   performed only if the handler returns `Ok`. A [`Rejection`] or a panic undoes them all. Only
//!   [`Context::ask`] and [`Context::http`], which wait for answers, act at once.
//! - **Memory is a cache.** A plugin runs as several instances and is replaced at will. A `static`
//!   or `thread_local!` is fine for what can be lost, and for nothing else.
//! - **A capability is asked for by using it.** A plugin that never emits does not import `emit`
//!   and needs no grant for it in `mixlab.toml`.
#[doc(hidden)]
#[allow(
    missing_docs,
    unsafe_code,
    reason = "generated: wit-bindgen writes the foreign calls, and the contract's documentation where it has any"
)]
pub mod bindings;

pub mod arguments;
mod ask;
mod broadcast;
mod config;
mod context;
mod emit;
mod event;
mod filter;
mod handlers;
mod history;
mod host;
mod http;
pub mod log;
mod message;
mod plugin;
mod presence;
mod rate;
mod refusal;
mod rejection;
pub mod reply;
mod rooms;
#[doc(hidden)]
pub mod runtime;
pub mod schema;
mod sockets;
mod store;
#[cfg(not(target_family = "wasm"))]
pub mod test;
mod timers;
pub mod webhook;

pub use arguments::Arguments;
pub use ask::{Answers, AskError};
pub use bindings::exports::mixlab::plugin::lifecycle::{OnExcess, Scope};
pub use bindings::hooks::exports::mixlab::plugin::connections::Refusal;
pub use bindings::mixlab::plugin::history::{Entry as Kept, Page};
pub use bindings::mixlab::plugin::sockets::{Request as Handshake, Socket};
pub use bindings::mixlab::plugin::types::{Connection, Error, Message, Rejection, User};
pub use config::Config;
pub use context::Context;
pub use emit::Emit;
pub use event::{Event, HandledEvent};
pub use filter::Verdict;
pub use history::{PastEvent, PastEvents};
pub use http::{Http, HttpError, HttpRequest, HttpResponse};
pub use message::Placeholder;
pub use mixlab_plugin_macros::data;
pub use plugin::Plugin;
pub use presence::{Member, Presence};
pub use reply::{NoAck, Outcome, Reply};
pub use schemars;
pub use serde;
pub use serde_json;
pub use store::{Entry, Store};
pub use timers::{Missed, Timer, Timers};

/// What nearly every plugin needs.
pub mod prelude {
    pub use crate::{
        Config, Context, Event, Message, NoAck, OnExcess, Outcome, Plugin, Refusal, Rejection,
        Scope, Verdict, data,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, value::RawValue};
}

/// Makes the component out of a function `fn(&Config) -> Result<Plugin, String>`, which runs once
/// in every instance, before anything else. Its error refuses the plugin at load and is shown to
/// the admin.
///
/// What a plugin is called for besides events, it says behind its function: `connections` with
/// [`on_connect`](Plugin::on_connect) or [`on_disconnect`](Plugin::on_disconnect), `filters`
/// with [`filter`](Plugin::filter), `timers` with [`on_timer`](Plugin::on_timer), `webhooks`
/// with [`webhook`](Plugin::webhook), `migrations` with [`migration`](Plugin::migration), e.g.
/// `export!(plugin, connections, timers)`. Only then does the host call it for them.
#[macro_export]
macro_rules! export {
    ($plugin:path $(, $optional:ident)* $(,)?) => {
        const _: () = {
            struct Component;

            impl $crate::bindings::exports::mixlab::plugin::lifecycle::Guest for Component {
                fn describe(
                    config: ::std::string::String,
                ) -> ::core::result::Result<$crate::runtime::Description, ::std::string::String> {
                    $crate::runtime::describe(config, $plugin, &[$(stringify!($optional)),*])
                }
            }

            impl $crate::bindings::exports::mixlab::plugin::events::Guest for Component {
                fn handle(
                    event: ::std::string::String,
                    message: $crate::Message,
                ) -> ::core::result::Result<$crate::Outcome, $crate::Rejection> {
                    $crate::runtime::handle(event, message)
                }
            }

            $crate::bindings::export_plugin!(Component with_types_in $crate::bindings);
        };
        $($crate::export!(@$optional);)*
    };
    (@connections) => {
        const _: () = {
            struct Hooks;

            impl $crate::bindings::hooks::exports::mixlab::plugin::connections::Guest for Hooks {
                fn on_connect(
                    auth: ::std::string::String,
                ) -> ::core::result::Result<(), $crate::Refusal> {
                    $crate::runtime::on_connect(&auth)
                }

                fn on_disconnect(reason: ::std::string::String) {
                    $crate::runtime::on_disconnect(&reason);
                }
            }

            $crate::bindings::hooks::export_hooks!(Hooks with_types_in $crate::bindings::hooks);
        };
    };
    (@filters) => {
        const _: () = {
            struct Filters;

            impl $crate::bindings::filters::exports::mixlab::plugin::filters::Guest for Filters {
                fn filter(
                    event: ::std::string::String,
                    message: $crate::Message,
                ) -> ::core::result::Result<$crate::Verdict, $crate::Rejection> {
                    $crate::runtime::filter(event, message)
                }
            }

            $crate::bindings::filters::export_filters!(Filters with_types_in $crate::bindings::filters);
        };
    };
    (@webhooks) => {
        const _: () = {
            struct Webhooks;

            impl $crate::bindings::webhooks::exports::mixlab::plugin::webhooks::Guest for Webhooks {
                fn handle(
                    request: $crate::webhook::Request,
                ) -> ::core::result::Result<$crate::webhook::Response, $crate::Rejection> {
                    $crate::runtime::webhook(request)
                }
            }

            $crate::bindings::webhooks::export_webhooks!(
                Webhooks with_types_in $crate::bindings::webhooks
            );
        };
    };
    (@migrations) => {
        const _: () = {
            struct Migrations;

            impl $crate::bindings::migrations::exports::mixlab::plugin::migrations::Guest for Migrations {
                fn data_version() -> u32 {
                    $crate::runtime::data_version()
                }

                fn migrate(
                    from: u32,
                    cursor: ::core::option::Option<::std::string::String>,
                ) -> ::core::result::Result<
                    ::core::option::Option<::std::string::String>,
                    $crate::Rejection,
                > {
                    $crate::runtime::migrate(from, cursor)
                }
            }

            $crate::bindings::migrations::export_migrations!(
                Migrations with_types_in $crate::bindings::migrations
            );
        };
    };
    (@timers) => {
        const _: () = {
            struct Timers;

            impl $crate::bindings::timers::exports::mixlab::plugin::timer_handler::Guest for Timers {
                fn fire(
                    name: ::std::string::String,
                    payload: ::std::string::String,
                    due_ms: u64,
                    attempt: u32,
                ) -> ::core::result::Result<(), $crate::Rejection> {
                    $crate::runtime::fire(name, payload, due_ms, attempt)
                }
            }

            $crate::bindings::timers::export_timers!(Timers with_types_in $crate::bindings::timers);
        };
    };
}

/// The examples of the documents, compiled by `cargo test`.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../host/docs/plugins/rust.md")]
    struct Rust;

    #[doc = include_str!("../../../host/docs/plugins/testing.md")]
    struct Testing;

    #[doc = include_str!("../../../host/docs/plugins/presence-and-history.md")]
    struct PresenceAndHistory;

    #[doc = include_str!("../../../host/docs/plugins/store.md")]
    struct Store;

    #[doc = include_str!("../../../host/docs/plugins/timers.md")]
    struct Timers;

    #[doc = include_str!("../../../host/docs/plugins/webhooks.md")]
    struct Webhooks;

    #[doc = include_str!("../../../host/docs/plugins/filters.md")]
    struct Filters;

    #[doc = include_str!("../../../host/docs/plugins/requests.md")]
    struct Requests;

    #[doc = include_str!("../../../host/docs/plugins/versions.md")]
    struct Versions;

    #[doc = include_str!("../../../README.md")]
    struct Front;
}
