//! Asks a million times for its rooms and ignores every answer.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("host_call_flood", |event| {
        event.handle_message(host_call_flood)
    }))
}

fn host_call_flood(cx: &Context, _: Message) -> Result<(), Rejection> {
    for _ in 0..1_000_000 {
        let _ = cx.joined();
    }
    Ok(())
}
