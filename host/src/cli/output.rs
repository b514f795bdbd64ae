//! What commands print. Whoever reads it may have enough of it at any time, and may be slow.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::harmless::in_lines;

/// How long a process that has something to say waits for whoever reads it to take it, in seconds.
const PATIENCE: i64 = 1;

/// A pipe that takes anything takes so many bytes at once: PIPE_BUF.
const AT_ONCE: usize = 4096;

/// Prints what a command was asked for. Others have their say in it: what they say does nothing to a terminal, and
/// whoever writes it takes care that none of it passes for a line of another (`harmless`). It is no failure if nobody wants to read all of it.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut text = Vec::new();
    write(&mut text)?;
    let mut out = io::stdout().lock();
    let text = String::from_utf8_lossy(&text);
    match out
        .write_all(in_lines(&text).as_bytes())
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Says on standard error what somebody should know, if it can be said.
pub(super) fn say(text: impl Display) {
    let line = format!("{text}\n");
    let line = in_lines(&line);
    let error = io::stderr();
    for part in line.as_bytes().chunks(AT_ONCE) {
        let mut polled = [PollFd::new(&error, PollFlags::OUT)];
        let patience = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        let takes_nothing = poll(&mut polled, Some(&patience)) == Ok(0);
        if takes_nothing || (&error).write_all(part).is_err() {
            return;
        }
    }
}
