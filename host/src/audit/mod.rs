//! Who changed what of a server, and who was refused: one JSON object a line, in a file of its own.
//!
//! It is not the log: it has nothing of what clients and plugins do all day, and nothing of it is left out by a
//! level. Events do not pass here; what does, pays one look at a pointer where there is no such file.

mod changes;
mod file;

use std::{
    io::{self, Write},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use serde::Serialize;

use self::file::File;
use crate::{
    address::ClientAddress,
    config::{self, Config},
    log_writer::{Lines, LogWriter},
    metrics,
    shorten::shortened,
};

/// So many refusals are written in a second: whoever is refused must not fill the disk. The others are counted.
const REFUSALS: u64 = 100;

/// How much is kept of what whoever is refused may name freely, in characters.
pub(crate) const MAX_NAME_CHARS: usize = 200;

/// For which time they are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Writes it, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Audit(Option<Arc<Trail>>);

struct Trail {
    lines: Lines,
    lost: IntCounter,
    refusals: Mutex<Refusals>,
    /// Writes what waits when it is dropped.
    _writer: LogWriter,
}

/// The refusals of the last moment.
struct Refusals {
    since: Instant,
    written: u64,
    /// Those that were not, since the last one that was.
    omitted: u64,
}

/// Who asked for something.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// Whoever had no key that is known.
    #[default]
    Unknown,
    /// The command line of this machine.
    Local,
    /// The backend whose API key has this name.
    Key(Box<str>),
}

/// What happened.
#[derive(Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(crate) enum Entry<'a> {
    /// The server serves.
    Started { version: &'a str, process: u32 },
    /// It stops.
    Stopped { process: u32 },
    /// A backend had the server do something that is no event.
    Requested {
        by: &'a By,
        address: IpAddr,
        method: &'a str,
        path: &'a str,
        /// None if whoever asked has hung up before the answer.
        status: Option<u16>,
        /// What its body says; not if that is long.
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<serde_json::Value>,
    },
    /// A backend was refused.
    RequestRefused {
        by: &'a By,
        address: IpAddr,
        method: &'a str,
        path: &'a str,
        /// None if whoever asked has hung up before the answer.
        status: Option<u16>,
    },
    /// A client was, by the host or a plugin.
    ClientRefused {
        address: IpAddr,
        namespace: String,
        /// As `mixlab_connections_total` counts it.
        outcome: &'a str,
    },
    /// An admin page was let in, with the password or with a session that it was given for one.
    PageAdmitted {
        page: &'a str,
        address: IpAddr,
        by: &'static str,
    },
    /// It had something happen to sockets, other than to emit events to them.
    PageCommanded {
        page: &'a str,
        command: &'a str,
        namespace: &'a str,
        /// A room, or a socket's id; none for everybody.
        filter: Option<&'a str>,
        /// That is joined or left.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
    },
    /// It wanted something that it may not, or that makes no sense.
    PageRefused {
        page: &'a str,
        command: String,
        reason: String,
    },
    /// Somebody sent a webhook and is not who may.
    WebhookRefused {
        address: IpAddr,
        plugin: &'a str,
        code: &'a str,
    },
    /// A version of a plugin serves.
    PluginServes {
        plugin: &'a str,
        version: &'a str,
        generation: u64,
        /// Of its file, or of all files of a script, in hexadecimal digits.
        sha256: String,
        grants: Vec<String>,
    },
    /// A version does not.
    PluginRefused { plugin: &'a str, reason: &'a str },
    /// It is not in the configuration any more, or disabled there.
    PluginOff { plugin: &'a str },
    /// A configuration is in force.
    ConfigServes {
        /// The tables of which something else is in force than before, by their names in the file.
        tables: Vec<&'static str>,
        /// The keys that are in force after a restart only.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        restart: Vec<&'static str>,
    },
    /// A configuration is not.
    ConfigRefused { reason: &'a str },
    /// A plugin may do other things.
    GrantsChanged {
        plugin: &'a str,
        added: Vec<String>,
        removed: Vec<String>,
    },
    /// A backend may call the API.
    KeyAdded { key: &'a str, rights: Vec<String> },
    /// It may not any more.
    KeyRemoved { key: &'a str },
    /// It may do other things, more or less often, until another time, or with another key.
    KeyChanged {
        key: &'a str,
        added: Vec<String>,
        removed: Vec<String>,
        /// Whether what it sends is another key.
        replaced: bool,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
    /// How many refusals before this one were not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<u64>,
}

impl Entry<'_> {
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Entry::RequestRefused { .. }
                | Entry::ClientRefused { .. }
                | Entry::PageRefused { .. }
                | Entry::WebhookRefused { .. }
        )
    }
}

impl Audit {
    /// Writes as the configuration says. The file is opened to see that it can be.
    pub(crate) fn open(config: &config::Audit) -> io::Result<Self> {
        let Some(path) = &config.path else {
            return Ok(Self::default());
        };
        Ok(Self(Some(Arc::new(Trail::start(File::open(path)?)?))))
    }

    /// Whether [`open`](Self::open) would; nothing is made.
    pub(crate) fn rehearse(config: &config::Audit) -> io::Result<()> {
        config.path.as_deref().map_or(Ok(()), file::rehearse)
    }

    /// Counts the lines that could not be written.
    pub(crate) fn lost(&self) -> Option<IntCounter> {
        self.0.as_ref().map(|trail| trail.lost.clone())
    }

    /// Whether anything is written.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes an entry, if there is a file; it is made only then.
    pub(crate) fn write<'a>(&self, entry: impl FnOnce() -> Entry<'a>) {
        if let Some(trail) = &self.0 {
            trail.write(&entry());
        }
    }

    /// Writes that a client was refused, with a code or with what a plugin said.
    pub(crate) fn client_refused(
        &self,
        address: ClientAddress,
        namespace: &str,
        refused: Option<&str>,
    ) {
        self.write(|| Entry::ClientRefused {
            address: address.ip(),
            namespace: shortened(namespace, MAX_NAME_CHARS),
            outcome: metrics::outcome(refused),
        });
    }

    /// Writes that an admin page was refused what it wanted by an event.
    pub(crate) fn page_refused(&self, page: &str, event: &str, reason: &dyn std::fmt::Display) {
        self.write(|| Entry::PageRefused {
            page,
            command: shortened(event.trim_start_matches('_'), MAX_NAME_CHARS),
            reason: shortened(reason, MAX_NAME_CHARS),
        });
    }

    /// Writes what is different in a configuration that is in force from now on, and which keys wait for a restart.
    pub(crate) fn configured(&self, former: &Config, new: &Config, restart: Vec<&'static str>) {
        if let Some(trail) = &self.0 {
            changes::between(former, new, restart, |entry| trail.write(&entry));
        }
    }
}

impl Trail {
    fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let lost = metrics::lost_audit_lines();
        let report = |lines| {
            tracing::error!(
                lines,
                "lines of the audit log were lost: they could not be written"
            )
        };
        let writer = LogWriter::start("audit", output, lost.clone(), report)?;
        Ok(Self {
            lines: writer.lines(),
            lost,
            refusals: Mutex::new(Refusals {
                since: Instant::now(),
                written: 0,
                omitted: 0,
            }),
            _writer: writer,
        })
    }

    fn write(&self, entry: &Entry<'_>) {
        let omitted = match entry.is_refusal() {
            false => None,
            true => match self.refusals.lock().count() {
                Some(omitted) => (omitted > 0).then_some(omitted),
                None => return,
            },
        };
        let line = Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            entry,
            omitted,
        };
        let mut line = serde_json::to_vec(&line).expect("all of it is JSON");
        line.push(b'\n');
        // It takes any line: what cannot be written is counted and said by its thread.
        let _ = (&self.lines).write_all(&line);
    }
}

impl Refusals {
    /// Counts one that is to be written, and how many before it were not; none if it is not, either.
    fn count(&mut self) -> Option<u64> {
        if self.since.elapsed() >= WINDOW {
            self.since = Instant::now();
            self.written = 0;
        }
        if self.written == REFUSALS {
            self.omitted += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.omitted))
    }
}

/// What names a thing that others have named, as it is written.
pub(crate) fn shown(names: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}
