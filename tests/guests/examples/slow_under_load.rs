//! Answers at once when left in peace; called again within 10 ms, it needs 5 ms of CPU.
use std::cell::Cell;

use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("slow_under_load", |event| {
        event.handle_message(slow_under_load)
    }))
}

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn slow_under_load(_: &Context, _: Message) -> Result<(), Rejection> {
    let last = LAST.replace(Some(Instant::now()));
    if last.is_some_and(|last| last.elapsed() < Duration::from_millis(10)) {
        busy_for(Duration::from_millis(5));
    }
    Ok(())
}
