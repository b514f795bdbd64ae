//! Loops for ever when a client disconnects.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("on_disconnect_loops", |event| {
        event.handle_message(|_: &Context, _| Ok(()))
    })
    .on_disconnect(on_disconnect_loops))
}

fn on_disconnect_loops(_: &Context, _: &str) {
    loop {
        std::hint::spin_loop();
    }
}
