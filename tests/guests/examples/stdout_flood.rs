//! Prints a million lines to stdout.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("stdout_flood", |event| {
        event.handle_message(stdout_flood)
    }))
}

fn stdout_flood(_: &Context, _: Message) -> Result<(), Rejection> {
    for line in 0..1_000_000 {
        println!("line {line}");
    }
    Ok(())
}
