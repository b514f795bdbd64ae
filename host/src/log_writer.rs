//! Writes a log from a thread of its own, so that nobody who logs ever waits for whoever reads it
//! or fails with the disk that it is on. Lines that find too many others waiting, or cannot be
//! written, are lost and counted.

use std::{
    borrow::Cow,
    io::{self, ErrorKind, Write},
    mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

use crate::harmless::{acts, shown};

/// How many bytes of lines may wait to be written. One line always may.
const MAX_WAITING: usize = 4 << 20;

/// How long the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Pause before the next try where a write would block and says so instead of waiting.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Where lines of the log go. When it is dropped, the last ones are written still.
pub(crate) struct LogWriter(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// There are lines to write, or no more will come.
    news: Condvar,
    /// All lines are written that will be.
    ended: Condvar,
    lost: IntCounter,
}

#[derive(Default)]
struct Queue {
    lines: Vec<Box<[u8]>>,
    /// What they take, in bytes.
    bytes: usize,
    phase: Phase,
}

/// ## Open => Closing => Ended
#[derive(Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// The thread ends when it has written what waits.
    Closing,
    /// Nobody writes any more.
    Ended,
}

impl LogWriter {
    /// Starts the thread, which is called so and writes to `output`. When it can write again after lines were lost,
    /// it has `report` log how many; `lost` counts them.
    pub(crate) fn start(
        name: &'static str,
        output: impl Write + Send + 'static,
        lost: IntCounter,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            news: Condvar::new(),
            ended: Condvar::new(),
            lost,
        });
        let writing = shared.clone();
        thread::Builder::new()
            .name(name.into())
            .spawn(move || writing.write_all(output, report))?;
        Ok(Self(shared))
    }

    /// What the log itself writes to.
    pub(crate) fn lines(&self) -> Lines {
        Lines(self.0.clone())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.phase = Phase::Closing;
        self.0.news.notify_one();
        let deadline = Instant::now() + LAST_LINES;
        while queue.phase != Phase::Ended {
            if self.0.ended.wait_until(&mut queue, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let line: Box<[u8]> = line.into();
        let mut queue = self.queue.lock();
        let has_room = queue.bytes == 0 || queue.bytes + line.len() <= MAX_WAITING;
        if queue.phase == Phase::Ended || !has_room {
            self.lost.inc();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push(line);
        self.news.notify_one();
    }

    /// All lines that wait; none if no more will come.
    fn next(&self) -> Option<Vec<Box<[u8]>>> {
        let mut queue = self.queue.lock();
        loop {
            if !queue.lines.is_empty() {
                queue.bytes = 0;
                return Some(mem::take(&mut queue.lines));
            }
            if queue.phase == Phase::Closing {
                queue.phase = Phase::Ended;
                self.ended.notify_all();
                return None;
            }
            self.news.wait(&mut queue);
        }
    }

    fn write_all(&self, output: impl Write, report: impl Fn(u64)) {
        let mut output = Output {
            output,
            is_torn: false,
        };
        let mut reported = 0;
        while let Some(lines) = self.next() {
            let mut is_written = true;
            for line in &lines {
                is_written = output.write(line).is_ok();
                if !is_written {
                    self.lost.inc();
                }
            }
            let lost = self.lost.get();
            // A report is a line like others, and must not get lost among too many.
            if is_written && lost > reported && self.queue.lock().bytes == 0 {
                report(lost - reported);
                reported = lost;
            }
        }
    }
}

struct Output<W> {
    output: W,
    /// The last line was written in part.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_part(b"\n")?;
        }
        self.write_part(line)
    }

    fn write_part(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes lines, each in one piece.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(&marked(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// A line in which others have their say: clients, plugins. Nothing but the beginning of a line of the
/// log begins at the margin, whatever they say; and no character does anything but those of colours, which
/// are the log's own: theirs are shown as text by then.
fn marked(line: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t') || char::from(byte) == ESCAPE;
    let Some((&b'\n', text)) = line.split_last() else {
        return line.into();
    };
    if text.iter().copied().all(is_plain) {
        return line.into();
    }
    let text = String::from_utf8_lossy(text);
    let text = shown(&text, |character| {
        acts(character) && !matches!(character, '\n' | '\t' | ESCAPE)
    });
    (text.replace('\n', "\n    ") + "\n").into_bytes().into()
}

/// Begins what switches colours.
const ESCAPE: char = '\u{1b}';

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// An output that asks before each write what is to come of it.
    struct Scripted {
        written: Arc<Mutex<Vec<u8>>>,
        asked: Sender<()>,
        answers: Receiver<io::Result<usize>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.send(()).unwrap();
            let takes = self.answers.recv().unwrap()?.min(bytes.len());
            self.written.lock().extend_from_slice(&bytes[..takes]);
            Ok(takes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        writer: Option<LogWriter>,
        lost: IntCounter,
        written: Arc<Mutex<Vec<u8>>>,
        asked: Receiver<()>,
        answers: Sender<io::Result<usize>>,
    }

    impl Test {
        fn start() -> Self {
            let lost = IntCounter::new("lost", "lost").unwrap();
            let (asked, answers, written) = (mpsc::channel(), mpsc::channel(), Arc::default());
            let output = Scripted {
                written: Arc::clone(&written),
                asked: asked.0,
                answers: answers.1,
            };
            let lines: Arc<Mutex<Option<Lines>>> = Arc::default();
            let reports = lines.clone();
            let report = move |lost| {
                let lines = reports.lock().clone().unwrap();
                (&lines)
                    .write_all(format!("{lost} lost\n").as_bytes())
                    .unwrap();
            };
            let writer = LogWriter::start("log", output, lost.clone(), report).unwrap();
            *lines.lock() = Some(writer.lines());
            Self {
                writer: Some(writer),
                lost,
                written,
                asked: asked.1,
                answers: answers.0,
            }
        }

        fn log(&self, line: &[u8]) {
            (&self.writer.as_ref().unwrap().lines())
                .write_all(line)
                .unwrap();
        }

        fn answer(&self, answer: io::Result<usize>) {
            self.asked.recv().unwrap();
            self.answers.send(answer).unwrap();
        }

        /// What was written up to the end.
        fn end(mut self) -> String {
            for _ in 0..100 {
                self.answers.send(Ok(usize::MAX)).unwrap();
            }
            self.writer = None;
            String::from_utf8(self.written.lock().clone()).unwrap()
        }
    }

    #[test]
    fn who_logs_does_not_wait_for_a_reader_that_stalls() {
        let test = Test::start();
        test.log(b"first\n");
        // The reader stalls.
        test.asked.recv().unwrap();
        let line = [b'x'; MAX_WAITING / 4];
        for _ in 0..7 {
            test.log(&line);
        }
        assert_eq!(test.lost.get(), 3);
        test.answers.send(Ok(usize::MAX)).unwrap();
        for _ in 0..4 {
            test.answer(Ok(usize::MAX));
        }
        test.answer(Ok(usize::MAX));
        test.log(b"after it\n");
        let text = test.end();
        assert!(text.starts_with("first\nxxx"), "{}", &text[..20]);
        assert!(text.ends_with("xxx3 lost\nafter it\n"), "{}", text.len());
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said_once_it_can() {
        let test = Test::start();
        let full = || Err(ErrorKind::StorageFull.into());
        for line in ["1\n", "2\n"] {
            test.log(line.as_bytes());
            test.answer(full());
        }
        test.log(b"half a line\n");
        test.answer(Ok(4));
        test.answer(full());
        test.log(b"a line\n");
        assert_eq!(test.end(), "half\na line\n3 lost\n");
    }

    #[test]
    fn what_others_say_begins_no_line_of_the_log() {
        let marked = |line: &str| String::from_utf8(marked(line.as_bytes()).into()).unwrap();
        for line in ["a line\n", "\x1b[31mred\x1b[0m\tßö\n", "no end", ""] {
            assert_eq!(marked(line), line);
        }
        assert_eq!(
            marked("two\nlines\rand\x0bmore\0\u{9b}\u{202e}\n"),
            "two\n    lines\\rand\\u000bmore\\u0000\\u009b\\u202e\n"
        );
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let test = Test::start();
        for number in 0..50 {
            test.log(format!("{number}\n").as_bytes());
        }
        let text = test.end();
        assert_eq!(text.lines().count(), 50);
        assert!(text.ends_with("\n49\n"), "{text}");
    }
}
