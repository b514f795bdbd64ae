//! Answers with a placeholder for an attachment that is not there: the stock client takes that for
//! a broken packet and closes the whole connection.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("broken_attachments", |event| {
        event.handle_message(broken_attachments)
    }))
}

fn broken_attachments(_: &Context, _: Message) -> Result<Message, Rejection> {
    Ok(Message {
        arguments: r#"[{"_placeholder":true,"num":7}]"#.to_owned(),
        attachments: vec![vec![1, 2, 3]],
    })
}
