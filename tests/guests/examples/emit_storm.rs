//! Emits 100,000 events and ignores every refusal.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("emit_storm", |event| {
        event.handle_message(emit_storm)
    }))
}

fn emit_storm(cx: &Context, _: Message) -> Result<(), Rejection> {
    for number in 0..100_000 {
        let _ = cx.emit("emit_storm:seen", &number);
    }
    Ok(())
}
