//! Uses the CPU for as many milliseconds as the client says, then answers with that number.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("slow", |event| event.handle(slow)))
}

fn slow(_: &Context, ms: u32) -> Result<u32, Rejection> {
    busy_for(Duration::from_millis(ms.into()));
    Ok(ms)
}
