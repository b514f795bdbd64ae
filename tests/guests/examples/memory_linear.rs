//! Allocates and writes memory until it is refused.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("memory_linear", |event| {
        event.handle_message(memory_linear)
    }))
}

fn memory_linear(_: &Context, _: Message) -> Result<(), Rejection> {
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
