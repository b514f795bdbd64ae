//! What can be measured, one file for each.

mod connect;
mod exchange;
mod fanout;
mod idle;
mod mixed;
mod reload;

pub use self::{
    connect::Connect, exchange::Exchange, fanout::Fanout, idle::Idle, mixed::Mixed, reload::Reload,
};

use clap::builder::{RangedI64ValueParser, TypedValueParser};

/// More sockets than a machine has ports for are a mistake.
const MAX_SOCKETS: i64 = 20_000;

/// How many sockets.
fn sockets() -> impl TypedValueParser<Value = usize> {
    RangedI64ValueParser::<u32>::new()
        .range(1..=MAX_SOCKETS)
        .map(|count| count as usize)
}
