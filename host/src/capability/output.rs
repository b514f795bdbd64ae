//! What guests write, by printing and into the log: kept until their call has ended, within the
//! log budget.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt, io, mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::meter::OverBudget;
use crate::{
    plugin::{CallNumber, Journal},
    record::{Recording, Tape},
};

/// How many of its last log lines a failed call shows.
const MAX_LINES: usize = 10;

/// What an instance writes during one call. Shared, since it is asked for when the instance is
/// gone with a call that took too long.
#[derive(Clone)]
pub struct Output {
    shared: Arc<Shared>,
    allowed: usize,
    /// Where its lines are kept beyond the call.
    journal: Arc<Journal>,
    /// What its calls are answered, if that is recorded.
    tape: Option<Arc<Tape>>,
}

#[derive(Default)]
struct Shared {
    written: Mutex<Written>,
    /// Whether there is anything: mostly not, and then nobody locks.
    is_written: AtomicBool,
}

/// What a guest wrote during one call. Displays as more lines of the log line of a failure.
#[derive(Default)]
pub struct Written {
    /// Standard output and standard error.
    printed: Vec<u8>,
    /// The last lines that it logged, each with its level.
    lines: VecDeque<(&'static str, String)>,
    /// By which the journal knows those lines; none if there are none.
    call: Option<CallNumber>,
    /// Where is recorded that the call failed, if anywhere.
    recording: Option<Recording>,
}

impl Written {
    /// By which the journal knows its lines; none if there are none.
    pub(crate) fn call(&self) -> Option<CallNumber> {
        self.call
    }

    /// Where is recorded that the call failed, if anywhere.
    pub(crate) fn recording(&self) -> Option<&Recording> {
        self.recording.as_ref()
    }

    /// What it printed; none if nothing.
    pub fn printed(&self) -> Option<Cow<'_, str>> {
        (!self.printed.is_empty()).then(|| String::from_utf8_lossy(&self.printed))
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(printed) = self.printed() {
            write!(f, "\nit printed:\n{}", printed.trim_end())?;
        }
        if !self.lines.is_empty() {
            f.write_str("\nits last log lines:")?;
        }
        for (level, line) in &self.lines {
            write!(f, "\n{level}: {line}")?;
        }
        Ok(())
    }
}

impl Output {
    /// Takes at most `allowed` bytes a call.
    pub fn new(allowed: usize, journal: Arc<Journal>, tape: Option<Arc<Tape>>) -> Self {
        Self {
            shared: Arc::default(),
            allowed,
            journal,
            tape,
        }
    }

    /// What its calls are answered, if that is recorded.
    pub fn tape(&self) -> Option<&Arc<Tape>> {
        self.tape.as_ref()
    }

    /// Hands over what was written; none if nothing was, and the call is not recorded.
    pub fn take(&self) -> Option<Box<Written>> {
        let recording = self.tape.as_ref().and_then(|tape| tape.recording());
        if recording.is_none() && !self.shared.is_written.load(Ordering::Acquire) {
            return None;
        }
        let mut written = self.lock();
        self.shared.is_written.store(false, Ordering::Relaxed);
        Some(Box::new(Written {
            recording,
            ..mem::take(&mut *written)
        }))
    }

    /// Keeps a line that was logged, and forgets the oldest of too many.
    pub fn logged(&self, level: &'static str, line: String) {
        let mut written = self.lock();
        let call = *written.call.get_or_insert_with(|| self.journal.next_call());
        self.journal.logged(call, level, &line);
        if written.lines.len() == MAX_LINES {
            written.lines.pop_front();
        }
        written.lines.push_back((level, line));
        drop(written);
        self.shared.is_written.store(true, Ordering::Release);
    }

    fn push(&self, bytes: &[u8]) -> Result<(), OverBudget> {
        let printed = &mut self.lock().printed;
        if printed.len() + bytes.len() > self.allowed {
            return Err(OverBudget::bytes("log", self.allowed));
        }
        printed.extend_from_slice(bytes);
        self.shared.is_written.store(true, Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.shared.written.lock()
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes)
            .map_err(|over| StreamError::Trap(over.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.allowed.max(1))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(
            self.push(bytes)
                .map(|()| bytes.len())
                .map_err(io::Error::other),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
