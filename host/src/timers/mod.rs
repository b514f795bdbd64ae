//! Calls of plugins at times of their own: what is due, when, and what came of it.
//!
//! A timer is a row in a bucket of the store that the host keeps for its plugin, so that to set one, to
//! cancel it and to end it are parts of the commits of calls ([`Timer`]). [`Clock`] knows when which is
//! due; it is told by the store of each row that is written. Who calls plugins is `dispatch/timers.rs`.

mod clock;
mod list;
mod schedules;
mod timer;

pub(crate) use self::{
    clock::{Clock, DueTimer},
    list::{Listed, list},
    schedules::{Schedule, ScheduleError},
    timer::{Kind, MAX_NAME_BYTES, MAX_PAYLOAD_BYTES, Timer, bucket, owner},
};
