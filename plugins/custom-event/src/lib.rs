//! Answers `custom_event` with `custom_response`, to the sender alone.
use mixlab_plugin::prelude::*;

mixlab_plugin::export!(plugin);

/// The `config` table in `mixlab.toml`.
#[data]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// How often one connection may send it.
    limit: String,
    /// The JSON Schema of its argument array. Any arguments are accepted without one.
    arguments: Option<Box<RawValue>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: "5000/1s".to_owned(),
            arguments: None,
        }
    }
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings { limit, arguments } = config.get()?;
    let mut custom_event = Event::new("custom_event")
        .anyone()
        .limit(Scope::Socket, &limit);
    if let Some(schema) = arguments {
        custom_event = custom_event.arguments(schema.get());
    }
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(custom_event.handle_message(answer)),
    )
}

/// Whatever the client sends comes back, as an event and in the ack: the message is passed on as it
/// came, binary attachments included.
fn answer(cx: &Context, message: Message) -> Result<Message, Rejection> {
    cx.emit_message("custom_response", &message)?;
    Ok(message)
}
