//! Panics in `describe`.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    panic!("describe_traps panics on purpose");
}
