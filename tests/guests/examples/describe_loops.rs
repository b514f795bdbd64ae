//! Loops for ever in `describe`.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    loop {
        std::hint::spin_loop();
    }
}
