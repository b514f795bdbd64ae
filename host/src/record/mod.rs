//! Calls as they crossed the contract's boundary, written to a file by `mixlab up --record` and run again by
//! `mixlab replay`.
//!
//! A `line` is what stands in the file. While it is recorded, each instance has a `tape`, which notes what the host
//! answers its calls and is no function of the plugin; in a replay the tape tells it. The `recorder` writes on a
//! thread of its own, as values are `shown` in `mixlab call`, without what is to be `redacted`.

mod line;
mod recorder;
mod redacted;
mod shown;
mod tape;

pub(crate) use line::{
    Answered, Bytes, Call, Came, Client, Failed, Given, Head, Instance, Line, ReadError, Row, Sent,
    User, read,
};
pub(crate) use recorder::{Options, Recorder, Recording, Taken};
pub(crate) use redacted::{REDACTED, Redaction, RedactionPath};
pub(crate) use shown::{BYTES, Shown, attach, message, shown, stored, written};
pub(crate) use tape::{Place, Played, Tape};
