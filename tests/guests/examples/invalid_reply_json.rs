//! Answers with the text that the client sends, whether or not it is a JSON array.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("invalid_reply_json", |event| {
        event.handle(invalid_reply_json)
    }))
}

fn invalid_reply_json(_: &Context, arguments: String) -> Result<Message, Rejection> {
    Ok(Message {
        arguments,
        attachments: Vec::new(),
    })
}
