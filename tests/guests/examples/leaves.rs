//! Leaves the room that the client names, and asks the host for nothing else.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("leaves", |event| event.handle(leaves)))
}

fn leaves(cx: &Context, room: String) -> Result<(), Rejection> {
    Ok(cx.leave(&room)?)
}
