//! What the guests of `examples/` share. Each of them is a plugin that misbehaves in one way, for
//! tests of the host; README.md says what the host must answer.
use mixlab_plugin::HandledEvent;
use mixlab_plugin::prelude::*;

/// What every guest imports.
pub mod prelude {
    pub use crate::{Attempt, attempt, busy_for, guest};
    pub use mixlab_plugin::prelude::*;
    pub use std::time::{Duration, Instant};
}

/// A plugin with one event that anyone may send, named after the guest, and `NAME:ping`, which
/// answers `pong`: a test sees by it that the plugin still serves.
pub fn guest(name: &str, handle: impl FnOnce(Event) -> HandledEvent) -> Plugin {
    let ping = Event::new(format!("{name}:ping")).anyone();
    Plugin::new(name, "1.0.0")
        .event(handle(Event::new(name).anyone()))
        .event(ping.handle_message(|_: &Context, _: Message| Ok(Message::of("pong")?)))
}

/// Uses the CPU for this long.
pub fn busy_for(time: std::time::Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        // Reading the clock is a host call; it must not be what the time is spent on.
        for _ in 0..10_000 {
            std::hint::black_box(());
        }
    }
}

/// What became of an attempt to reach out of the sandbox.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// It worked, with this result.
    Reached(String),
    /// It did not, for this reason.
    Refused(String),
}

/// The result of such an attempt, as data for the client.
pub fn attempt(result: std::io::Result<String>) -> Attempt {
    match result {
        Ok(text) => Attempt::Reached(text),
        Err(error) => Attempt::Refused(error.to_string()),
    }
}
