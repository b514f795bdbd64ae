//! Describes a plugin without a single event.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(Plugin::new("empty_description", "1.0.0"))
}
