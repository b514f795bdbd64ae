//! Broadcasts a payment update; of interest when `mixlab.toml` does not grant it.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("ungranted", |event| event.handle_message(ungranted)))
}

fn ungranted(cx: &Context, _: Message) -> Result<(), Rejection> {
    cx.broadcast_payment_update(&"unwanted")?;
    Ok(())
}
