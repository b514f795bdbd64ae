//! Declares arguments by a JSON Schema that is none: `type` cannot be a number.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("bad_schema", |event| {
        event
            .arguments(r#"{"type":7}"#)
            .handle_message(|_: &Context, _| Ok(()))
    }))
}
