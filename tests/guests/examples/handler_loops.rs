//! Loops for ever in its handler.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("handler_loops", |event| {
        event.handle_message(handler_loops)
    }))
}

fn handler_loops(_: &Context, _: Message) -> Result<(), Rejection> {
    loop {
        std::hint::spin_loop();
    }
}
