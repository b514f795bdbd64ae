//! What commands print. Whoever reads it may have enough of it at any time, and may be slow.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a process that has something to say waits for whoever reads it to take it, in seconds.
const PATIENCE: i64 = 1;

/// A pipe that takes anything takes so many bytes at once: PIPE_BUF.
const AT_ONCE: usize = 4096;

/// Prints what a command was asked for. It is no failure if nobody wants to read all of it.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut text = Vec::new();
    write(&mut text)?;
    let mut out = io::stdout().lock();
    match out
        .write_all(shown(&text).as_bytes())
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Says on standard error what somebody should know, if it can be said.
pub(super) fn say(text: impl Display) {
    let line = shown(format!("{text}\n").as_bytes());
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

/// A name that plugins, or their clients, have chosen, for a list with a line for each.
pub(super) fn in_one_line(name: &str) -> String {
    let mut shown = String::new();
    for character in name.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Text in which plugins have their say: their control characters are shown and do nothing.
fn shown(text: &[u8]) -> String {
    let mut shown = String::new();
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}
