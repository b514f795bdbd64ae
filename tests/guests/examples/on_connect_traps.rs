//! Panics when a client connects.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("on_connect_traps", |event| {
        event.handle_message(|_: &Context, _| Ok(()))
    })
    .on_connect(on_connect_traps))
}

fn on_connect_traps(_: &Context, _: Value) -> Result<(), Rejection> {
    panic!("on_connect_traps panics on purpose");
}
