//! Writes a million lines into the log.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("log_flood", |event| event.handle_message(log_flood)))
}

fn log_flood(_: &Context, _: Message) -> Result<(), Rejection> {
    for line in 0..1_000_000 {
        mixlab_plugin::log::info!("line {line}");
    }
    Ok(())
}
