//! `mixlab up`: serve.

use std::{
    io::{self, Write},
    iter,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use clap::Args;
use listenfd::ListenFd;
use prometheus::IntCounter;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{
    Failure, Global, build,
    control::RunFile,
    logging,
    notify::{State, tell_system},
    output::print,
    successor::{Successor, Successors},
    watch::watch,
};
use crate::{
    auth, clock,
    config::{self, Config},
    handover::channel::{Former, Handed, Standing},
    metrics,
    recent_log::RecentLog,
    record::{Options, Recorder, Redaction, RedactionPath},
    reload::{Asked, ConfigSource, Request},
    server::{self, Drain, Inherited, Server, Upgrade, UpgradeRequest},
    units::Size,
    user::{TokenClaims, User, UserId},
    web::{self, CONTRACTS_PAGE, PLAYGROUND, START_PAGE},
};

/// How long the tokens that a server without a secret prints are good: as long as the run.
const TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Args)]
pub(super) struct Up {
    /// Build the plugins first.
    #[arg(long)]
    build: bool,
    /// Build a plugin again whenever its source changes.
    #[arg(long)]
    watch: bool,
    /// Write what crosses the boundary of each call of a plugin to this new file, for `mixlab replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// How large that file may become: then nothing more is recorded.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "100MB",
        requires = "record"
    )]
    record_size: Size,
    /// What is left out of it, beside fields that are called like secrets, e.g. `payload.card.*`; may be given several
    /// times.
    #[arg(long, value_name = "PATH", requires = "record")]
    record_redact: Vec<RedactionPath>,
    /// Follow the process that has started this one, when that hands over.
    #[arg(long, hide = true)]
    take_over: bool,
}

/// Has processes follow this one that are ready to.
struct Upgrades {
    successors: Successors,
    signals: Signal,
    requests: mpsc::Receiver<UpgradeRequest>,
    drain: Drain,
    sockets: Vec<Weak<TcpListener>>,
}

/// What follows this process when it has ended.
struct Follows {
    successor: Successor,
    sockets: Vec<OwnedFd>,
    /// Since when no connection is accepted, in milliseconds since 1970.
    since: u64,
}

impl Up {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        match self.take_over {
            true => {
                let Handed { sockets, since } = follow(global)?;
                self.start(global, Inherited::new(sockets), Some(since))
            }
            false => self.start(global, opened_by_system()?, None),
        }
    }

    /// Serves on these sockets, as far as they are where the configuration says. Connections wait there `since`
    /// then, if a process before has handed over.
    fn start(
        &self,
        global: &Global,
        sockets: Inherited,
        since: Option<u64>,
    ) -> Result<(), Failure> {
        let config = global.load_config()?;
        let lost = metrics::lost_log_lines();
        // Until the end: then the last lines are written.
        let recent = RecentLog::default();
        let is_shown = config.auth.is_for_trying_out().then(|| recent.clone());
        let _log = logging::start_with(&config.log, lost.clone(), is_shown)?;
        let built_at = SystemTime::now();
        if self.build || self.watch {
            build::all(&config)?;
        }
        super::runtime()?.block_on(self.serve(
            config,
            global,
            (built_at, sockets, since),
            lost,
            recent,
        ))
    }

    async fn serve(
        &self,
        config: Config,
        global: &Global,
        (built_at, sockets, since): (SystemTime, Inherited, Option<u64>),
        lost_log_lines: IntCounter,
        log: RecentLog,
    ) -> Result<(), Failure> {
        let source = ConfigSource {
            path: global.config.clone(),
            overrides: global.overrides(),
            builds: self.watch.then(Arc::default),
        };
        outlive_full_files()?;
        let lost_calls = metrics::lost_recorded_calls();
        let recorder = self.recorder(lost_calls.clone())?;
        let builder = Server::builder(config.clone()).follow(source.clone());
        let (upgrade, requests) = Upgrade::new();
        let builder = builder.inherit(sockets).upgrade(upgrade);
        let mut builder = builder.play(log);
        if let Some(recorder) = &recorder {
            builder = builder.record(recorder.clone());
        }
        let started = builder.start().await;
        if let (Err(_), Some(path)) = (&started, &self.record) {
            // There is nothing in it, and the next start would find it in its way.
            let _ = std::fs::remove_file(path);
        }
        let server = started?;
        server.metrics().add(lost_log_lines);
        server.metrics().add(lost_calls);
        // Whoever reads that the server listens may signal it at once.
        let stop = stop_signal(server.drain())?;
        let mut upgrades = Upgrades {
            successors: self.successors(),
            signals: signal(SignalKind::user_defined2())?,
            requests,
            drain: server.drain(),
            sockets: server.sockets(),
        };
        reload_on_hangup(&server)?;
        // It serves, whether somebody reads where or not.
        print(|out| announce(out, &server, &config)).unwrap_or_else(
            |error| tracing::warn!(address = %server.address(), %error, "the address was not printed"),
        );
        let run_file = RunFile::write(&global.config, &server);
        let run_file = run_file
            .inspect_err(|error| tracing::warn!("`mixlab plugin` will need an API key: {error}"));
        if self.watch {
            // A thread of its own: it waits for changes for ever, and the runtime waits for its own
            // threads before it ends.
            std::thread::Builder::new().spawn(move || watch(&config, &source, built_at))?;
        }
        tell_system(&State::Ready);
        if let Some(since) = since {
            let gap_ms = clock::now().saturating_sub(since);
            tracing::info!(
                gap_ms,
                "it serves where another process has ended: so long connections waited"
            );
        }
        let mut follows = None;
        let stop = async {
            tokio::select! {
                () = stop => {}
                it = upgrades.followed() => follows = Some(it),
            }
        };
        let (result, rest) = server.run_and_let_go(stop).await;
        if let Some(recorder) = recorder {
            recorder.end();
        }
        // The process that follows writes its own.
        drop(run_file);
        if let Some(Follows {
            successor,
            sockets,
            since,
        }) = follows
        {
            if let Some(process) = successor.id() {
                tell_system(&State::MainPid(process));
            }
            successor.hand_over(&sockets, since)?;
        }
        tokio::select! {
            () = rest.end() => {}
            () = end_signal()? => {}
        }
        Ok(result?)
    }

    /// How the process is started that follows this one.
    fn successors(&self) -> Successors {
        let successors = Successors::of_this_process();
        match (self.watch, &self.record) {
            (true, _) => successors.none("it was started with --watch"),
            (_, Some(_)) => successors.none("it was started with --record"),
            (false, None) => successors,
        }
    }

    /// What writes down calls, if that is asked for.
    fn recorder(&self, lost: IntCounter) -> Result<Option<Arc<Recorder>>, Failure> {
        let Some(path) = self.record.clone() else {
            return Ok(None);
        };
        let options = Options {
            path,
            max_size: self.record_size,
            redaction: Redaction::new(self.record_redact.clone()),
        };
        Ok(Some(Recorder::start(options, lost)?))
    }
}

impl Upgrades {
    /// Waits until this process is to be followed by one that is ready, and has sent its clients away.
    async fn followed(&mut self) -> Follows {
        loop {
            let request = tokio::select! {
                Some(request) = self.requests.recv() => Some(request),
                _ = self.signals.recv() => None,
            };
            let ready = self.ready().await;
            let answer = match &ready {
                Ok(follows) => follows
                    .successor
                    .id()
                    .ok_or_else(|| "it has ended".to_owned()),
                Err(reason) => Err(reason.clone()),
            };
            match &answer {
                Ok(process) => tracing::info!(process, "another process follows this one"),
                Err(reason) => {
                    tracing::error!(reason, "no other process follows: this one goes on")
                }
            }
            let is_ready = answer.is_ok();
            // Those who have asked meanwhile have asked for the same.
            let meanwhile = iter::from_fn(|| self.requests.try_recv().ok());
            for request in request.into_iter().chain(meanwhile) {
                // Who asked may be gone.
                let _ = request.send(answer.clone());
            }
            if let (Ok(follows), true) = (ready, is_ready) {
                self.drain.ended().await;
                return follows;
            }
        }
    }

    /// Starts the process that follows. When that is ready, this one accepts no more connections.
    async fn ready(&self) -> Result<Follows, String> {
        let successor = self.successors.start().await?;
        let sockets = self.sockets.iter().filter_map(Weak::upgrade);
        let sockets: io::Result<_> = sockets.map(|it| it.as_fd().try_clone_to_owned()).collect();
        let sockets = sockets.map_err(|error| format!("its sockets: {error}"))?;
        match self.drain.begin_in_place() {
            true => Ok(Follows {
                successor,
                sockets,
                since: clock::now(),
            }),
            false => Err("it is about to leave".to_owned()),
        }
    }
}

/// Waits until this process is to go on where another one has ended, if its configuration and plugins are good.
fn follow(global: &Global) -> Result<Handed, Failure> {
    let mut former = Former::on_stdin()?;
    let rehearsed = rehearse(global);
    let standing = match &rehearsed {
        Ok(()) => Standing::Ready,
        Err(failure) => Standing::Failed(failure.reason.clone()),
    };
    former.tell(&standing)?;
    rehearsed?;
    Ok(former.follow()?)
}

/// Loads all plugins without what is stored, which is the running process's still. They are compiled then.
fn rehearse(global: &Global) -> Result<(), Failure> {
    let config = global.load_config()?;
    let checked = super::runtime()?.block_on(server::check(&config))?;
    match checked.refusals() {
        refusals if refusals.is_empty() => Ok(()),
        refusals => Err(Failure::from(refusals.join("; "))),
    }
}

/// The sockets that systemd has opened for this process (`LISTEN_FDS`).
fn opened_by_system() -> io::Result<Inherited> {
    let mut opened = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..opened.len() {
        sockets.extend(opened.take_tcp_listener(index)?);
    }
    Ok(Inherited::new(sockets))
}

/// Says where the server is; without a secret, also how to get in.
fn announce(out: &mut dyn Write, server: &Server, config: &Config) -> io::Result<()> {
    let url = server.url();
    writeln!(out, "MixLab is listening on {url}")?;
    if config.auth.is_for_trying_out() {
        writeln!(
            out,
            "JWT_SECRET is not set: on this machine only, with a secret for this run"
        )?;
        let key = server.local_key();
        for (id, username, role) in [("1", "ada", "admin"), ("2", "grace", "student")] {
            let token = token(server, &config.auth, id, username, role);
            writeln!(out, "\n  {username} ({role})")?;
            if web::has_start_page(&config.web) {
                let page = format!("{url}/{START_PAGE}#token={token}&key={key}");
                writeln!(out, "    page   {page}")?;
            }
            writeln!(out, "    token  {token}")?;
        }
        if web::is_alone_with_it(config, server.address()) {
            writeln!(out, "\n  events\n    docs   {url}{CONTRACTS_PAGE}")?;
            writeln!(out, "    play   {url}{PLAYGROUND}#key={key}")?;
        }
        writeln!(out, "\n  backends\n    key    {key}\n")?;
    }
    Ok(())
}

fn token(server: &Server, auth: &config::Auth, id: &str, username: &str, role: &str) -> String {
    let user = User {
        id: UserId::from_text(id).expect("the ids above are valid"),
        username: Some(username.to_owned()),
        roles: vec![role.to_owned()],
        token: TokenClaims::default(),
    };
    auth::sign(&user, server.secret(), TOKEN_LIFETIME, auth)
}

/// SIGHUP looks at all files at once.
fn reload_on_hangup(server: &Server) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    let requests = server.reload_requests();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let (request, _done) = Request::new(Asked::Refresh, "SIGHUP");
            if requests.send(request).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// A file that may not grow (`ulimit -f`) fails whoever writes to it, as one on a full disk does. Unless the
/// signal is taken, the system ends the process.
fn outlive_full_files() -> io::Result<()> {
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}

/// SIGTERM or Ctrl-C, from now on.
fn end_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// SIGTERM, when the clients have been sent away; or Ctrl-C or a second SIGTERM, at once.
fn stop_signal(drain: Drain) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {
                tell_system(&State::Stopping);
                drain.begin();
            }
            _ = interrupt.recv() => return,
        }
        tokio::select! {
            () = drain.ended() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
