//! Sleeps for an hour: it waits in the host and uses no CPU.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("sleeps", |event| event.handle_message(sleeps)))
}

fn sleeps(_: &Context, _: Message) -> Result<(), Rejection> {
    std::thread::sleep(Duration::from_secs(3600));
    Ok(())
}
