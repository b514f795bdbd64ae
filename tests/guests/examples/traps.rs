//! Panics in its handler.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("traps", |event| event.handle_message(traps)))
}

fn traps(_: &Context, _: Message) -> Result<(), Rejection> {
    panic!("traps panics on purpose");
}
