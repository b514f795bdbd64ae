//! Joins a room, emits and broadcasts a payment update, then rejects: nothing of it may be seen.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("rejects", |event| event.handle_message(rejects)))
}

fn rejects(cx: &Context, _: Message) -> Result<(), Rejection> {
    cx.join("rejects")?;
    cx.emit("rejects:seen", "never")?;
    cx.broadcast_payment_update(&"never")?;
    let rejection = Rejection::new("slot_taken", "The slot is taken");
    Err(rejection
        .retry_after(Duration::from_millis(1500))
        .details(&["10:00", "11:00"]))
}
