//! Joins a room, emits and broadcasts a payment update, then panics: nothing of it may be seen.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("traps_after_emits", |event| {
        event.handle_message(traps_after_emits)
    }))
}

fn traps_after_emits(cx: &Context, _: Message) -> Result<(), Rejection> {
    cx.join("traps_after_emits")?;
    cx.emit("traps_after_emits:seen", "never")?;
    cx.broadcast_payment_update(&"never")?;
    panic!("traps_after_emits panics on purpose");
}
