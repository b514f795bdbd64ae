//! Answers with a text that is not UTF-8.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("invalid_utf8", |event| {
        event.handle_message(invalid_utf8)
    }))
}

#[allow(unsafe_code, reason = "no safe text is anything but UTF-8")]
fn invalid_utf8(_: &Context, _: Message) -> Result<Message, Rejection> {
    let bytes = b"[\"\xff\"]".to_vec();
    Ok(Message {
        // Nothing here looks at it: it is the host that reads it.
        arguments: unsafe { String::from_utf8_unchecked(bytes) },
        attachments: Vec::new(),
    })
}
