//! Answers with what it got: any arguments, with their attachments.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("echo", |event| event.handle_message(echo)))
}

fn echo(_: &Context, message: Message) -> Result<Message, Rejection> {
    Ok(message)
}
