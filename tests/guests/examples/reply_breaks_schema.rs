//! Promises to answer with a number and answers with a text.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

const NUMBER: &str = r#"{"type":"array","prefixItems":[{"type":"number"}]}"#;

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("reply_breaks_schema", |event| {
        event
            .reply(NUMBER)
            .handle_message(|_: &Context, _| Ok("seven"))
    }))
}
