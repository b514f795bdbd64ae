//! Refuses to be loaded, with a reason.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Err("config.studio: there is no such studio".to_owned())
}
