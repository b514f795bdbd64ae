//! The command line.

mod admin;
mod build;
mod call;
mod check;
mod completions;
mod contracts;
mod control;
mod drain;
mod key;
mod logging;
mod logs;
mod man;
mod new;
mod notify;
mod output;
mod plugin;
mod products;
mod pull;
mod replay;
mod schema;
mod sources;
mod successor;
mod test;
mod timers;
mod token;
mod up;
mod upgrade;
mod waits;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::output::say;
use crate::{
    config::{Config, ConfigError, Overrides},
    harmless::indented,
};

/// Exit code for a configuration or a command line that is wrong.
const EXIT_BAD_INPUT: u8 = 2;

/// A Socket.IO server whose events are hot-reloaded WebAssembly plugins.
#[derive(Parser)]
#[command(name = "mixlab", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// The configuration file.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "mixlab.toml"
    )]
    config: PathBuf,
    /// The address to listen on, or of the running server; over the configuration's.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    listen: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve.
    Up(up::Up),
    /// Build the plugins whose source is configured, all or the named.
    Build(build::Build),
    /// Check the configuration and load every plugin without serving.
    Check(check::Check),
    /// Make a plugin to begin with, with its cases and its place in mixlab.toml.
    New(new::New),
    /// Send one event to a component or a script, without a server, and print what comes of it.
    Call(call::Call),
    /// Run the cases that are written beside plugins.
    Test(test::Test),
    /// Run recorded calls again with another component, and print what differs.
    Replay(replay::Replay),
    /// Write TypeScript's types of what clients may send and get.
    Types(contracts::Types),
    /// Write what clients may send and get as a page and as AsyncAPI, and the HTTP API as OpenAPI.
    Docs(contracts::Docs),
    /// Print the JSON Schema of mixlab.toml, for editors.
    Schema(schema::Schema),
    /// Make and check JSON Web Tokens signed with JWT_SECRET.
    #[command(subcommand)]
    Token(token::Token),
    /// Make API keys for backends.
    #[command(subcommand)]
    Key(key::Key),
    /// Make what `[admin]` needs.
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Look at the plugins of the running server.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Print the last lines of a plugin of the running server: what it logged, and its failures.
    Logs(logs::Logs),
    /// Send the clients of the running server away, to others, and wait until all have gone.
    Drain(drain::Drain),
    /// Have a new process follow the running server, which goes on if that one would not serve.
    Upgrade(upgrade::Upgrade),
    /// Look at the timers of the running server's plugins.
    #[command(subcommand)]
    Timers(timers::Timers),
    /// Write what a shell needs to complete command lines.
    Completions(completions::Completions),
    /// Write manual pages.
    Man(man::Man),
}

/// How a command prints its data.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Why a command failed, and the exit code for it.
#[derive(Debug)]
struct Failure {
    code: u8,
    reason: String,
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: 1,
            reason: error.to_string(),
        }
    }
}

impl Failure {
    fn bad_input(error: ConfigError) -> Self {
        Self {
            code: EXIT_BAD_INPUT,
            reason: error.to_string(),
        }
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let result = match command {
        Command::Up(up) => up.run(&global),
        Command::Build(build) => build.run(&global),
        Command::Check(check) => check.run(&global),
        Command::New(new) => new.run(&global),
        Command::Call(call) => call.run(&global),
        Command::Test(test) => test.run(&global),
        Command::Replay(replay) => replay.run(&global),
        Command::Types(types) => types.run(&global),
        Command::Docs(docs) => docs.run(&global),
        Command::Schema(schema) => schema.run(),
        Command::Token(token) => token.run(&global),
        Command::Key(key) => key.run(),
        Command::Admin(admin) => admin.run(),
        Command::Plugin(plugin) => plugin.run(&global),
        Command::Logs(logs) => logs.run(&global),
        Command::Drain(drain) => drain.run(&global),
        Command::Upgrade(upgrade) => upgrade.run(&global),
        Command::Timers(timers) => timers.run(&global),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, reason }) => {
            say_error(&reason);
            ExitCode::from(code)
        }
    }
}

/// Says why a command failed. What plugins say of it may have lines that look like another failure.
fn say_error(reason: &str) {
    say(format_args!("error: {}", indented(reason, "    ")));
}

impl Global {
    fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
        }
    }

    fn load_config(&self) -> Result<Config, Failure> {
        Config::load(&self.config, self.overrides()).map_err(Failure::bad_input)
    }
}

/// The runtime for commands that serve or wait.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
