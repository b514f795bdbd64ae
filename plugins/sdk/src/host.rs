//! What a plugin asks of its host: in a component the host that runs it, and elsewhere that of a test.
#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::mixlab::plugin::{
    ask, broadcast, connection, emit, history, http, log, presence, rooms, sockets, store, timers,
};
#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::test::{
    ask, broadcast, connection, emit, history, http, log, presence, rooms, sockets, store, timers,
};
