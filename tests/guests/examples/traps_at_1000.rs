//! Counts its calls and panics at the 1000th of each instance.
use std::cell::Cell;

use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("traps_at_1000", |event| {
        event.handle_message(traps_at_1000)
    }))
}

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

fn traps_at_1000(_: &Context, _: Message) -> Result<u32, Rejection> {
    let call = CALLS.get() + 1;
    CALLS.set(call);
    assert!(call < 1000, "traps_at_1000 panics on purpose");
    Ok(call)
}
