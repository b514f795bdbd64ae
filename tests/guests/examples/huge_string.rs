//! Answers with a text of 100 MB, or of as many bytes as the client says.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("huge_string", |event| event.handle(huge_string)))
}

fn huge_string(_: &Context, bytes: Option<usize>) -> Result<Message, Rejection> {
    let bytes = bytes.unwrap_or(100_000_000);
    let mut arguments = String::with_capacity(bytes + 4);
    arguments.push_str("[\"");
    arguments.extend(std::iter::repeat_n('x', bytes));
    arguments.push_str("\"]");
    Ok(Message {
        arguments,
        attachments: Vec::new(),
    })
}
