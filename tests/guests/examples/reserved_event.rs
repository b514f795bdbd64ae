//! Declares an event whose name belongs to the host.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    let event = Event::new("mixlab:x").anyone();
    Ok(Plugin::new("reserved_event", "1.0.0").event(event.handle_message(|_: &Context, _| Ok(()))))
}
