//! Answers with arrays nested as deeply as the client says, or with `NaN` if it says 0.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("nan_and_deep", |event| event.handle(nan_and_deep)))
}

fn nan_and_deep(_: &Context, depth: usize) -> Result<Message, Rejection> {
    let arguments = match depth {
        0 => "[NaN]".to_owned(),
        depth => "[".repeat(depth) + &"]".repeat(depth),
    };
    Ok(Message {
        arguments,
        attachments: Vec::new(),
    })
}
