//! Writes a record, on a thread of its own.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use prometheus::IntCounter;
use serde_json::Value;

use super::{
    line::{Bytes, Call, Came, Failed, Head, Instance, Line, Range, Row, VERSION},
    redacted::Redaction,
    shown::{shown, written},
};
use crate::{
    effect::Effect,
    error::TraceId,
    store::{Key, Reads, Write},
    units::Size,
};

/// So many lines may wait for the thread.
const MAX_WAITING: usize = 4096;

/// And so many bytes, about.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// What a call takes while it waits, beside what crossed the boundary, about.
const CALL_BYTES: usize = 1024;

/// How long the end of a server waits for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last line of a record that is full, with its end.
const FULL_BYTES: usize = "\"full\"\n".len();

/// What is recorded, and where.
pub(crate) struct Options {
    /// The file, which must not be there.
    pub path: PathBuf,
    /// How large it may become.
    pub max_size: Size,
    /// What is left out.
    pub redaction: Redaction,
}

/// Takes calls while the server runs. What the thread is too slow for is lost, and counted.
pub(crate) struct Recorder {
    lines: SyncSender<Waiting>,
    waiting_bytes: Arc<AtomicUsize>,
    instances: AtomicU64,
    calls: AtomicU64,
    /// Calls that were lost and are still to be told of.
    lost: Arc<AtomicU64>,
    /// All of them.
    all_lost: IntCounter,
    /// Nothing is written any more.
    is_over: Arc<AtomicBool>,
}

/// What waits for the thread.
enum Waiting {
    Instance(Box<Instance>),
    Call(Box<Taken>),
    Failed(Failed),
    /// Somebody waits until all before is written.
    End(Sender<()>),
}

/// A call that has ended, as it was taken. It is made a line of on the thread.
pub(crate) struct Taken {
    call: Call,
    before: Vec<(Key, Write)>,
    reads: Arc<Reads>,
    effects: Vec<Effect>,
    writes: BTreeMap<Key, Write>,
    bytes: usize,
}

/// Where the failure of a call is recorded.
#[derive(Clone)]
pub(crate) struct Recording {
    recorder: Arc<Recorder>,
    call: u64,
}

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// What is there may be somebody's record.
    #[error("--record {0}: the file is there already")]
    IsThere(PathBuf),
    /// The file cannot be written.
    #[error("--record {0}: {1}")]
    File(PathBuf, #[source] io::Error),
}

impl Recorder {
    /// Begins a record.
    pub(crate) fn start(options: Options, all_lost: IntCounter) -> Result<Arc<Self>, RecordError> {
        let Options {
            path,
            max_size,
            redaction,
        } = options;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RecordError::IsThere(path.clone()),
            _ => RecordError::File(path.clone(), error),
        })?;
        let (lines, receiver) = sync_channel(MAX_WAITING);
        let recorder = Arc::new(Self {
            lines,
            waiting_bytes: Arc::default(),
            instances: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            lost: Arc::default(),
            all_lost,
            is_over: Arc::default(),
        });
        let mut writer = Writer {
            out: BufWriter::new(file),
            left: max_size.as_usize(),
            path: path.clone(),
            max_size,
            redaction,
            waiting_bytes: recorder.waiting_bytes.clone(),
            lost: recorder.lost.clone(),
            is_over: recorder.is_over.clone(),
        };
        let head = Line::Record(Head {
            version: VERSION,
            mixlab: env!("CARGO_PKG_VERSION").to_owned(),
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            redact: writer.redaction.paths(),
        });
        let failed = |error| RecordError::File(path.clone(), error);
        writer.write(&head).map_err(failed)?;
        writer.out.flush().map_err(failed)?;
        let name = "record".to_owned();
        let thread = thread::Builder::new().name(name);
        thread
            .spawn(move || writer.run(&receiver))
            .map_err(failed)?;
        Ok(recorder)
    }

    pub(super) fn next_instance(&self) -> u64 {
        self.instances.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn instance(&self, instance: Instance) {
        self.send(Waiting::Instance(Box::new(instance)), CALL_BYTES);
    }

    pub(super) fn call(&self, taken: Taken) {
        let bytes = taken.bytes;
        self.send(Waiting::Call(Box::new(taken)), bytes);
    }

    /// Waits until all that was taken is written, for a while.
    pub(crate) fn end(&self) {
        let (done, written) = channel();
        if self.lines.send(Waiting::End(done)).is_ok()
            && let Err(RecvTimeoutError::Timeout) = written.recv_timeout(PATIENCE)
        {
            tracing::warn!("the record lacks its end: its disk is too slow");
        }
    }

    fn send(&self, waiting: Waiting, bytes: usize) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let others = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = others + bytes <= MAX_WAITING_BYTES;
        if has_room && self.lines.try_send(waiting).is_ok() {
            return;
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.all_lost.inc();
        if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("calls are lost to the record: its disk is too slow");
        }
    }
}

impl Recording {
    pub(super) fn new(recorder: Arc<Recorder>, call: u64) -> Self {
        Self { recorder, call }
    }

    /// The call counts as failed.
    pub(crate) fn failed(&self, trace_id: TraceId, reason: &str) {
        let failed = Failed {
            call: self.call,
            trace_id: trace_id.to_string(),
            reason: reason.to_owned(),
        };
        self.recorder.send(Waiting::Failed(failed), CALL_BYTES);
    }
}

impl Taken {
    pub(super) fn new(call: Call, before: Vec<(Key, Write)>, reads: Arc<Reads>) -> Self {
        Self {
            call,
            before,
            reads,
            effects: Vec::new(),
            writes: BTreeMap::new(),
            bytes: CALL_BYTES,
        }
    }

    /// So much crossed the boundary.
    pub(crate) fn used(mut self, boundary_bytes: usize) -> Self {
        self.bytes += boundary_bytes;
        self
    }

    /// What the plugin said, and wants to happen.
    pub(crate) fn said(
        mut self,
        outcome: Value,
        effects: Vec<Effect>,
        writes: BTreeMap<Key, Write>,
    ) -> Self {
        self.call.came.outcome = outcome;
        self.effects = effects;
        self.writes = writes;
        self
    }

    /// It gave no answer.
    pub(crate) fn failed(mut self, outcome: Value, reason: String) -> Self {
        self.call.came.outcome = outcome;
        self.call.reason = Some(reason);
        self
    }

    fn into_call(self) -> Call {
        let Self {
            call,
            before,
            reads,
            effects,
            writes,
            bytes: _,
        } = self;
        let noted = reads.take();
        let came = Came::new(call.came.outcome, &effects, &writes);
        let ranges = noted.ranges.iter().map(|range| Range {
            bucket: range.prefix.bucket_name().to_owned(),
            prefix: range.prefix.name().to_owned(),
            after: range.after.as_ref().map(|key| key.name().to_owned()),
            last: range.last.as_ref().map(|key| key.name().to_owned()),
        });
        Call {
            before: before
                .into_iter()
                .map(|(key, write)| Row::of(&key, write))
                .collect(),
            ranges: ranges.collect(),
            reads: noted
                .keys
                .into_iter()
                .map(|(key, value)| Row::of(&key, value.map_or(Write::Delete, Write::Set)))
                .collect(),
            came,
            ..call
        }
    }
}

impl Came {
    /// With effects and writes as they are shown.
    pub(crate) fn new(outcome: Value, effects: &[Effect], writes: &BTreeMap<Key, Write>) -> Self {
        let value = |shown| serde_json::to_value(shown).unwrap_or_default();
        Self {
            outcome,
            effects: shown(effects).into_iter().map(value).collect(),
            writes: written(writes).into_iter().map(value).collect(),
        }
    }
}

impl Row {
    fn of(key: &Key, write: Write) -> Self {
        let (value, expires, add) = match write {
            Write::Set(value) => (Some(Bytes(value.bytes.to_vec())), value.expires, None),
            Write::Delete => (None, None, None),
            Write::Add(by) => (None, None, Some(by)),
        };
        Self {
            bucket: key.bucket_name().to_owned(),
            key: key.name().to_owned(),
            value,
            expires,
            add,
        }
    }
}

/// The thread's side.
struct Writer {
    out: BufWriter<File>,
    /// How many bytes the file may still take.
    left: usize,
    path: PathBuf,
    max_size: Size,
    redaction: Redaction,
    waiting_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Waiting>) {
        while let Ok(waiting) = lines.recv() {
            if let Err(error) = self.take(waiting, lines) {
                self.is_over.store(true, Ordering::Relaxed);
                tracing::error!(path = %self.path.display(), %error, "the record is not written any more");
                return;
            }
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Writes this and all that waits behind it, so that nothing stays behind when nobody calls.
    fn take(&mut self, first: Waiting, lines: &Receiver<Waiting>) -> io::Result<()> {
        let mut next = Some(first);
        while let Some(waiting) = next {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            match self.lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => self.write(&Line::Lost(lost))?,
            }
            match waiting {
                Waiting::Instance(mut instance) => {
                    self.has_taken(CALL_BYTES);
                    self.redaction.instance(&mut instance);
                    self.write(&Line::Instance(*instance))?;
                }
                Waiting::Call(taken) => {
                    self.has_taken(taken.bytes);
                    let mut call = taken.into_call();
                    self.redaction.call(&mut call);
                    self.write(&Line::Call(Box::new(call)))?;
                }
                Waiting::Failed(failed) => {
                    self.has_taken(CALL_BYTES);
                    self.write(&Line::Failed(failed))?;
                }
                Waiting::End(done) => {
                    self.out.flush()?;
                    // Who waited may be gone.
                    let _ = done.send(());
                }
            }
            next = lines.try_recv().ok();
        }
        self.out.flush()
    }

    fn has_taken(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Writes a line, or that there is no room for one more.
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        if text.contains(['\n', '\r']) {
            // In JSON they are white space, in what a client sent as it was.
            text = text.replace(['\n', '\r'], " ");
        }
        text.push('\n');
        if text.len() + FULL_BYTES > self.left {
            self.is_over.store(true, Ordering::Relaxed);
            let (path, max_size) = (self.path.display(), self.max_size);
            tracing::warn!(%path, %max_size, "the record is full: nothing more is recorded");
            text = serde_json::to_string(&Line::Full)?;
            text.push('\n');
        }
        self.left = self.left.saturating_sub(text.len());
        self.out.write_all(text.as_bytes())
    }
}
