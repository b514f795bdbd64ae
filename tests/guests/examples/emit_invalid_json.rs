//! Emits the text that the client sends, whether or not it is a JSON array.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("emit_invalid_json", |event| {
        event.handle(emit_invalid_json)
    }))
}

fn emit_invalid_json(cx: &Context, arguments: String) -> Result<(), Rejection> {
    let message = Message {
        arguments,
        attachments: Vec::new(),
    };
    cx.emit_message("emit_invalid_json:seen", &message)?;
    Ok(())
}
