//! Loops for ever when a client connects.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("on_connect_loops", |event| {
        event.handle_message(|_: &Context, _| Ok(()))
    })
    .on_connect(on_connect_loops))
}

fn on_connect_loops(_: &Context, _: Value) -> Result<(), Rejection> {
    loop {
        std::hint::spin_loop();
    }
}
