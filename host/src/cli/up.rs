//! `mixlab up`: serve.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::Args;
use prometheus::IntCounter;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{Failure, Global, build, control::RunFile, logging, output::print, watch::watch};
use crate::{
    auth,
    config::{self, Config},
    metrics,
    recent_log::RecentLog,
    record::{Options, Recorder, Redaction, RedactionPath},
    reload::ConfigSource,
    server::{Drain, Server},
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
}

impl Up {
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
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
        super::runtime()?.block_on(self.serve(config, global, built_at, lost, recent))
    }

    async fn serve(
        &self,
        config: Config,
        global: &Global,
        built_at: SystemTime,
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
        reload_on_hangup(&server)?;
        // It serves, whether somebody reads where or not.
        print(|out| announce(out, &server, &config)).unwrap_or_else(
            |error| tracing::warn!(address = %server.address(), %error, "the address was not printed"),
        );
        let run_file = RunFile::write(&global.config, &server);
        let _run_file = run_file
            .inspect_err(|error| tracing::warn!("`mixlab plugin` will need an API key: {error}"));
        if self.watch {
            // A thread of its own: it waits for changes for ever, and the runtime waits for its own
            // threads before it ends.
            std::thread::Builder::new().spawn(move || watch(&config, &source, built_at))?;
        }
        tell_system(NotifyState::Ready);
        let result = server.run(stop).await;
        if let Some(recorder) = recorder {
            recorder.end();
        }
        Ok(result?)
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

/// Tells systemd how far the server is, if that has started it as `Type=notify`.
fn tell_system(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told how far the server is");
    }
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
            let (request, _done) = oneshot::channel();
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

/// SIGTERM, when the clients have been sent away; or Ctrl-C or a second SIGTERM, at once.
fn stop_signal(drain: Drain) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {
                tell_system(NotifyState::Stopping);
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
