//! The one plugin of the instance, and the calls that its exports pass on to it.
use std::cell::Cell;

pub use crate::bindings::exports::mixlab::plugin::lifecycle::Description;
use crate::handlers::Handlers;
use crate::webhook::{Request, Response};
use crate::{Config, Context, Message, Outcome, Plugin, Refusal, Rejection, Timer, Verdict};

thread_local! {
    /// Leaked on purpose: it lives as long as the instance, and a plain reference costs nothing
    /// to look up.
    static HANDLERS: Cell<Option<&'static Handlers>> = const { Cell::new(None) };
}

/// Builds the plugin and keeps its handlers. `exported`: what the component exports besides events.
pub fn describe(
    config: String,
    plugin: fn(&Config) -> Result<Plugin, String>,
    exported: &[&str],
) -> Result<Description, String> {
    let (description, handlers) = plugin(&Config::new(config))?.into_parts()?;
    for (what, export, is_there) in [
        (
            "on_connect and on_disconnect",
            "connections",
            handlers.has_hooks(),
        ),
        ("filter", "filters", !handlers.filters.is_empty()),
        ("webhook", "webhooks", handlers.on_webhook.is_some()),
        ("on_timer", "timers", handlers.on_timer.is_some()),
        ("migration", "migrations", handlers.migration.is_some()),
    ] {
        if is_there && !exported.contains(&export) {
            return Err(format!(
                "{what} would never be called: write `export!(plugin, {export})`"
            ));
        }
    }
    HANDLERS.set(Some(Box::leak(Box::new(handlers))));
    Ok(description)
}

/// Handles one event.
pub fn handle(event: String, message: Message) -> Result<Outcome, Rejection> {
    handlers().handle(event, message)
}

/// Handles one request of another service.
pub fn webhook(request: Request) -> Result<Response, Rejection> {
    match &handlers().on_webhook {
        Some(handler) => handler(&Context::of_hook("webhook"), request),
        None => Err(Rejection::new("not_found", "The plugin takes no webhooks")),
    }
}

/// Filters one event of another plugin.
pub fn filter(event: String, message: Message) -> Result<Verdict, Rejection> {
    handlers().filter(event, message)
}

/// Asks the plugin whether the connection is welcome.
pub fn on_connect(auth: &str) -> Result<(), Refusal> {
    match &handlers().on_connect {
        Some(hook) => hook(&Context::of_hook("connect"), auth),
        None => Ok(()),
    }
}

/// Tells the plugin that the connection is gone.
pub fn on_disconnect(reason: &str) {
    if let Some(hook) = &handlers().on_disconnect {
        hook(&Context::of_hook("disconnect"), reason);
    }
}

/// Tells the plugin that a timer is due.
pub fn fire(name: String, payload: String, due_ms: u64, attempt: u32) -> Result<(), Rejection> {
    match &handlers().on_timer {
        Some(handler) => handler(
            &Context::of_hook("timer"),
            Timer::new(name, payload, due_ms, attempt),
        ),
        None => Err(Rejection::new("no_timers", "The plugin handles no timers")),
    }
}

/// The version of the form in which the plugin stores.
pub fn data_version() -> u32 {
    let migration = &handlers().migration;
    migration.as_ref().map_or(0, |(version, _)| *version)
}

/// Rewrites a part of what is stored.
pub fn migrate(from: u32, cursor: Option<String>) -> Result<Option<String>, Rejection> {
    match &handlers().migration {
        Some((_, migrate)) => migrate(&Context::of_hook("migrate"), from, cursor),
        None => Ok(None),
    }
}

fn handlers() -> &'static Handlers {
    HANDLERS
        .get()
        .expect("the host calls describe before anything else")
}
