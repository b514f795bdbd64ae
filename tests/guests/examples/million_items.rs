//! Answers with a million empty attachments, or with as many as the client says.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("million_items", |event| event.handle(million_items)))
}

fn million_items(_: &Context, items: Option<usize>) -> Result<Message, Rejection> {
    let attachments = vec![Vec::new(); items.unwrap_or(1_000_000)];
    Ok(Message {
        arguments: "[]".to_owned(),
        attachments,
    })
}
