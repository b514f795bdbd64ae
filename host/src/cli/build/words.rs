//! What builds say, for who does not look at the terminal where they run.

use std::{
    collections::VecDeque,
    io::{self, PipeReader, PipeWriter, Read, Write, pipe},
    process::Stdio,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;

/// So much of it is kept, in bytes: the end.
const MAX_BYTES: usize = 32 << 10;

/// How long the last words are waited for of what a build has left behind, as a compiler's server, which may go on for
/// ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one build says on its standard error, where it is passed on to, too.
#[derive(Default)]
pub(in crate::cli) struct Words(Arc<Mutex<VecDeque<u8>>>);

impl Words {
    /// Hears a program.
    pub(super) fn hear(&self) -> io::Result<Hearing> {
        let (reader, writer) = pipe()?;
        let (done, is_done) = channel();
        let kept = self.0.clone();
        thread::Builder::new()
            .name("build-words".into())
            .spawn(move || listen(reader, &kept, &done))?;
        Ok(Hearing { writer, is_done })
    }

    /// The end of it, without what colours it.
    pub(in crate::cli) fn text(&self) -> String {
        let kept = self.0.lock();
        let (bytes, rest) = kept.as_slices();
        let bytes = [bytes, rest].concat();
        let is_whole = bytes.len() < MAX_BYTES;
        let text = without_colours(&String::from_utf8_lossy(&bytes));
        match text.split_once('\n').filter(|_| !is_whole) {
            Some((_, lines)) => format!("…\n{}", lines.trim_end()),
            None => text.trim_end().to_owned(),
        }
    }
}

/// A program that is heard.
pub(super) struct Hearing {
    writer: PipeWriter,
    is_done: Receiver<()>,
}

impl Hearing {
    /// Where the program is to write.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        Ok(self.writer.try_clone()?.into())
    }

    /// Waits until all is heard that the program has said, which has ended.
    pub(super) fn end(self) {
        drop(self.writer);
        // It is done when nobody can say more.
        let _ = self.is_done.recv_timeout(LAST_WORDS);
    }
}

/// Passes on and keeps what comes; `done` is dropped at the end.
fn listen(mut reader: PipeReader, kept: &Mutex<VecDeque<u8>>, _done: &Sender<()>) {
    let mut buffer = [0; 4096];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        // If nobody reads it there, it is kept all the same.
        let _ = io::stderr().write_all(&buffer[..read]);
        let mut kept = kept.lock();
        kept.extend(&buffer[..read]);
        let too_many = kept.len().saturating_sub(MAX_BYTES);
        kept.drain(..too_many);
    }
}

/// A text without the sequences that colour it on a terminal, `ESC [ … letter`.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| !matches!(character, ' '..='?'));
        let mut rest = end.map_or("", |end| &part[end..]).chars();
        rest.next();
        plain += rest.as_str();
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn say(line: &str) -> (Words, Duration) {
        let words = Words::default();
        let hearing = words.hear().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", line]).stdin(Stdio::null());
        command.stdout(hearing.stdio().unwrap());
        command.stderr(hearing.stdio().unwrap());
        assert!(command.status().unwrap().success());
        drop(command);
        let began = std::time::Instant::now();
        hearing.end();
        (words, began.elapsed())
    }

    #[test]
    fn both_streams_are_heard_in_order_and_without_colours() {
        let (words, _) = say(r"echo one; printf '\033[1;31mtwo\033[0m\033[K\n' >&2; echo three");
        assert_eq!(words.text(), "one\ntwo\nthree");
    }

    #[test]
    fn the_end_is_kept_of_much() {
        let (words, _) = say("for i in $(seq 40); do printf '%01000d\\n' $i; done");
        let text = words.text();
        assert!(text.starts_with("…\n") && text.ends_with("0040"), "{text}");
        assert!(text.len() <= MAX_BYTES + "…\n".len());
        assert!(
            text.lines().skip(1).all(|line| line.len() == 1000),
            "whole lines"
        );
    }

    #[test]
    fn what_a_build_leaves_running_is_not_waited_for() {
        let (words, took) = say("echo built; sleep 5 &");
        assert_eq!(words.text(), "built");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}
