//! `wasi:clocks/wall-clock`: what guests are told of the time.

use std::time::Duration;

use wasmtime_wasi::clocks::HostWallClock;

use crate::clock;

/// The clock that plugins live by.
pub(super) struct GuestClock;

impl HostWallClock for GuestClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        clock::since_1970()
    }
}
