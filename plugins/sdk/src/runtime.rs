//! The one plugin of the instance, and the calls that its exports pass on to it.
use std::cell::Cell;

pub use crate::bindings::exports::mixlab::plugin::lifecycle::Description;
use crate::handlers::Handlers;
use crate::{Config, Context, Message, Outcome, Plugin, Refusal, Rejection};

thread_local! {
    /// Leaked on purpose: it lives as long as the instance, and a plain reference costs nothing
    /// to look up.
    static HANDLERS: Cell<Option<&'static Handlers>> = const { Cell::new(None) };
}

/// Builds the plugin and keeps its handlers. `hooks`: whether the component exports
/// `connections`.
pub fn describe(
    config: String,
    plugin: fn(&Config) -> Result<Plugin, String>,
    hooks: bool,
) -> Result<Description, String> {
    let (description, handlers) = plugin(&Config::new(config))?.into_parts()?;
    if handlers.has_hooks() && !hooks {
        return Err("on_connect and on_disconnect would never be called: write \
                    `export!(plugin, connections)`"
            .to_owned());
    }
    HANDLERS.set(Some(Box::leak(Box::new(handlers))));
    Ok(description)
}

/// Handles one event.
pub fn handle(event: String, message: Message) -> Result<Outcome, Rejection> {
    handlers().handle(event, message)
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

fn handlers() -> &'static Handlers {
    HANDLERS
        .get()
        .expect("the host calls describe before anything else")
}
