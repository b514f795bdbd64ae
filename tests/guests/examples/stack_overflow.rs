//! Calls itself without end.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("stack_overflow", |event| {
        event.handle_message(stack_overflow)
    }))
}

fn stack_overflow(_: &Context, _: Message) -> Result<u64, Rejection> {
    Ok(deeper(0))
}

fn deeper(depth: u64) -> u64 {
    // Opaque, so that it is neither turned into a loop nor known to be endless.
    let depth = std::hint::black_box(depth);
    if depth == u64::MAX {
        depth
    } else {
        deeper(depth + 1) + std::hint::black_box(1)
    }
}
