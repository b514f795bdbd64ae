//! Answers `custom_event` with `custom_response`, to the sender alone.
use mixlab_plugin::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    let custom_event = Event::new("custom_event")
        .anyone()
        .limit(Scope::Socket, "5000/1s")
        .handle_message(answer);
    Ok(Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).event(custom_event))
}

/// Whatever the client sends comes back, as an event and in the ack: the message is passed on as it
/// came, binary attachments included.
fn answer(cx: &Context, message: Message) -> Result<Message, Rejection> {
    cx.emit_message("custom_response", &message)?;
    Ok(message)
}
