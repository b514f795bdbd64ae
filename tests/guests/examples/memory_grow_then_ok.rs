//! Uses as many MiB as the client says, gives them back and answers with that number.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("memory_grow_then_ok", |event| {
        event.handle(memory_grow_then_ok)
    }))
}

fn memory_grow_then_ok(_: &Context, mib: usize) -> Result<usize, Rejection> {
    drop(std::hint::black_box(vec![1_u8; mib << 20]));
    Ok(mib)
}
