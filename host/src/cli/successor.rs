//! The process that is to follow the running server: the same command line, with what is its program by now.

use std::{
    env,
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net,
    process::{Child, Command},
    time::timeout,
};

use crate::handover::channel::{self, Standing};

/// How long its plugins may take to load: nothing of them may be compiled yet.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// What is added to its command line.
pub(super) const TAKE_OVER: &str = "--take-over";

/// How the process is started that follows this one.
pub(super) struct Successors {
    /// Unknown where there is no /proc, which nobody needs for anything else.
    program: io::Result<PathBuf>,
    arguments: Vec<OsString>,
    /// Why there is none.
    none: Option<&'static str>,
}

/// A process that is ready to follow. It ends with this, if nothing is handed over to it.
pub(super) struct Successor {
    child: Child,
    channel: UnixStream,
}

impl Successors {
    /// By the path of this process's program, now: another may be there later.
    pub(super) fn of_this_process() -> Self {
        let arguments = env::args_os().skip(1);
        Self {
            program: env::current_exe(),
            arguments: arguments.filter(|it| it != TAKE_OVER).collect(),
            none: None,
        }
    }

    /// None can follow, for this reason.
    pub(super) fn none(self, reason: &'static str) -> Self {
        Self {
            none: Some(reason),
            ..self
        }
    }

    /// Starts one, and waits until it is ready; an error says why it is not.
    pub(super) async fn start(&self) -> Result<Successor, String> {
        if let Some(reason) = self.none {
            return Err(reason.to_owned());
        }
        if std::process::id() == 1 {
            return Err("it is the first process of a container, which ends with it".to_owned());
        }
        let program = self.program.as_ref();
        let program = program.map_err(|error| format!("its program is not known: {error}"))?;
        let failed = |error: io::Error| format!("{}: {error}", program.display());
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new(program)
            .args(&self.arguments)
            .arg(TAKE_OVER)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mut ours = BufReader::new(net::UnixStream::from_std(ours).map_err(failed)?);
        let mut line = String::new();
        let said = timeout(PATIENCE, ours.read_line(&mut line)).await;
        let Ok(said) = said else {
            return Err(format!("it was not ready after {} s", PATIENCE.as_secs()));
        };
        said.map_err(failed)?;
        match serde_json::from_str(&line) {
            Ok(Standing::Ready) => {}
            Ok(Standing::Failed(reason)) => return Err(reason),
            Err(_) => {
                let ended = timeout(Duration::from_secs(1), child.wait()).await;
                return Err(match ended {
                    Ok(Ok(status)) => format!("it ended before it was ready: {status}"),
                    _ => "it is no version that could follow".to_owned(),
                });
            }
        }
        let channel = ours.into_inner().into_std().map_err(failed)?;
        channel.set_nonblocking(false).map_err(failed)?;
        Ok(Successor { child, channel })
    }
}

impl Successor {
    /// Its id, as long as it lives.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Hands these sockets over to it: it goes on, since this process has let go of everything.
    pub(super) fn hand_over(self, sockets: &[OwnedFd], since: u64) -> io::Result<()> {
        channel::hand_over(self.channel, sockets, since)?;
        // It is not to be killed.
        std::mem::forget(self.child);
        Ok(())
    }
}
