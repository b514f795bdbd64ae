//! Loops for ever in a constructor, so before any call: instantiation itself hangs.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("start_loops", |event| {
        event.handle_message(|_: &Context, _| Ok(()))
    }))
}

#[allow(
    unsafe_code,
    reason = "the linker's list of constructors is the only way to run code at instantiation"
)]
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    loop {
        std::hint::spin_loop();
    }
}
