//! `mixlab call`: one event for one plugin, without a server.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tracing_subscriber::layer::SubscriberExt;

use super::{
    EXIT_BAD_INPUT, Failure, Format, Global,
    output::{print, say},
    token::{role, user_id},
    waits::Waits,
};
use crate::{
    capability::Used,
    config::{Budget, Config},
    grant::{Grant, Grants},
    harmless::{in_one_line, indented},
    plugin::Witnessed,
    record::{self, Shown},
    server,
    trial::{self, Client, Joined, Line, Lines, Received, Sender, Trial},
    units::duration,
    user::{TokenClaims, User, UserId},
};

#[derive(Args)]
pub(super) struct Call {
    /// The component or the script.
    file: PathBuf,
    /// The event.
    event: String,
    /// Its arguments, each as JSON.
    #[arg(value_name = "JSON")]
    arguments: Vec<String>,
    /// The id of the user who sends it; without it, nobody in particular does.
    #[arg(long, value_parser = user_id)]
    user: Option<UserId>,
    /// The name of the user.
    #[arg(long, requires = "user")]
    username: Option<String>,
    /// A role of the user; may be given several times.
    #[arg(long = "role", value_name = "ROLE", value_parser = role, requires = "user")]
    roles: Vec<String>,
    /// The namespace.
    #[arg(long, value_name = "PATH", default_value = "/")]
    namespace: String,
    /// The JSON that the plugin is configured with, instead of its config in mixlab.toml.
    #[arg(long, value_name = "JSON", value_parser = object)]
    plugin_config: Option<String>,
    /// A grant, beside those in mixlab.toml; may be given several times. A plugin that is not in
    /// mixlab.toml has these alone, or all if there are none.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<Grant>,
    /// How to print what came of it.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// What came of a call.
#[derive(Serialize)]
struct Report {
    plugin: String,
    event: String,
    /// What the sender is answered; none if it is answered nothing.
    ack: Option<Vec<Value>>,
    /// Whether that is an error.
    refused: bool,
    /// What else the sender gets.
    received: Vec<Event>,
    /// What happens, in order.
    effects: Vec<Shown>,
    /// What is written to the store, timers as well.
    writes: Vec<Shown>,
    log: Vec<Line>,
    /// What the plugin has used; none if it was not called, or did not come to an end.
    used: Option<UsedOf>,
}

/// An event that the sender gets.
#[derive(Serialize)]
struct Event {
    event: String,
    arguments: Vec<Value>,
}

/// How much a call has used, and of how much.
#[derive(Serialize)]
struct UsedOf {
    cpu_us: [u128; 2],
    memory_bytes: [usize; 2],
    boundary_bytes: [usize; 2],
    host_calls: [usize; 2],
    effects: [usize; 2],
    log_bytes: [usize; 2],
}

impl Call {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let config = Config::load_if_there(&global.config, global.overrides());
        let config = config.map_err(Failure::bad_input)?;
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry()
            .with(lines.clone())
            .with(Waits);
        tracing::subscriber::set_global_default(subscriber)?;
        let format = self.format;
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build()?;
        let report = runtime.block_on(self.call(config, &lines))?;
        match format {
            Format::Json => {
                let json = serde_json::to_string_pretty(&report)?;
                print(|out| writeln!(out, "{json}"))?;
            }
            Format::Text => print(|out| write(out, &report))?,
        }
        match report.refused {
            true => Err(Failure::from("the event was refused")),
            false => Ok(()),
        }
    }

    async fn call(self, mut config: Config, lines: &Lines) -> Result<Report, Failure> {
        let could_not = |error: &dyn std::fmt::Display| Failure {
            code: EXIT_BAD_INPUT,
            reason: error.to_string(),
        };
        let arguments = self.arguments.iter().map(|text| json(text));
        let arguments: Vec<Value> = arguments
            .collect::<Result<_, _>>()
            .map_err(|error| could_not(&error))?;
        let grants: Grants = self.grants.into_iter().collect();
        let mut plugin = trial::plugin_with(&config, &self.file, grants);
        if let Some(json) = self.plugin_config {
            plugin.config = json;
        }
        let (name, budget) = (plugin.name.clone(), plugin.budget.clone());
        config.plugins = vec![plugin];
        let engine = server::start_engine(&config.runtime).map_err(|error| could_not(&error))?;
        let now = crate::clock::now();
        let trial = Trial::start(config, engine, now).await;
        let trial = trial.map_err(|error| could_not(&error))?;
        let user = self.user.map(|id| User {
            id,
            username: self.username,
            roles: self.roles,
            token: TokenClaims::default(),
        });
        let sender = Sender {
            user,
            namespace: self.namespace,
            ..Sender::default()
        };
        let connected = trial.connect(&sender).await;
        let mut client = connected.map_err(|error| could_not(&error))?;
        let mut received = client.take();
        if let Joined::Not(error) = Client::joined(&mut received) {
            say_lines(&lines.take());
            return Err(could_not(&format_args!(
                "the client is not let in: {error}"
            )));
        }
        trial.witness.take();
        lines.take();
        let ack = client.emit(&self.event, &arguments);
        trial.rest().await.map_err(|error| could_not(&error))?;
        let mut report = Report {
            plugin: name,
            event: self.event,
            ack: None,
            refused: false,
            received: Vec::new(),
            effects: Vec::new(),
            writes: Vec::new(),
            log: lines.take(),
            used: None,
        };
        for received in client.take() {
            match received {
                Received::Ack { id, arguments } if id == ack => report.ack = Some(arguments),
                Received::Event {
                    name, arguments, ..
                } => report.received.push(Event {
                    event: name,
                    arguments,
                }),
                _ => {}
            }
        }
        let calls = trial.witness.take();
        report.refused = report.ack.as_deref().is_some_and(is_error);
        for call in calls.iter().filter(|call| call.is_yes) {
            report.effects.extend(record::shown(&call.effects));
            report.writes.extend(record::written(&call.writes));
        }
        report.used = calls.first().map(|call| UsedOf::new(call, &budget));
        trial.server.close().await;
        Ok(report)
    }
}

/// Whether an ack is the error shape of the host.
fn is_error(ack: &[Value]) -> bool {
    let [Value::Object(fields)] = ack else {
        return false;
    };
    let error = fields.get("error").filter(|_| fields.len() == 1);
    error.is_some_and(|error| error["code"].is_string())
}

impl UsedOf {
    fn new(call: &Witnessed, budget: &Budget) -> Self {
        let Used {
            memory_bytes,
            boundary_bytes,
            host_calls,
            effects,
            log_bytes,
        } = call.used;
        Self {
            cpu_us: [call.cpu.as_micros(), budget.cpu.as_micros()],
            memory_bytes: [memory_bytes, budget.memory.as_usize()],
            boundary_bytes: [boundary_bytes, budget.boundary.as_usize()],
            host_calls: [host_calls, budget.host_calls],
            effects: [effects, budget.effects],
            log_bytes: [log_bytes, budget.log.as_usize()],
        }
    }
}

fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    match &report.ack {
        Some(ack) => writeln!(out, "ack         {}", text(ack))?,
        None => writeln!(out, "no ack")?,
    }
    for Event { event, arguments } in &report.received {
        let event = in_one_line(event);
        writeln!(out, "received    {event}  {}", text(arguments))?;
    }
    for shown in report.effects.iter().chain(&report.writes) {
        writeln!(out, "{shown}")?;
    }
    for Line { level, text, .. } in &report.log {
        writeln!(out, "{level:<10}  {}", indented(text, "    "))?;
    }
    let Some(used) = &report.used else {
        return Ok(());
    };
    let micros = |micros: u128| u64::try_from(micros).unwrap_or(u64::MAX);
    let [cpu, most] = used.cpu_us;
    let (cpu, most) = (cpu, Duration::from_micros(micros(most)));
    writeln!(
        out,
        "used        cpu {cpu} µs of {}",
        duration::display(most)
    )?;
    for (what, [used, most]) in [
        ("memory", used.memory_bytes),
        ("boundary", used.boundary_bytes),
        ("log", used.log_bytes),
    ] {
        let [used, most] =
            [used, most].map(|bytes| bytesize::ByteSize(bytes as u64).display().iec());
        writeln!(out, "            {what} {used} of {most}")?;
    }
    for (what, [used, most]) in [("host_calls", used.host_calls), ("effects", used.effects)] {
        writeln!(out, "            {what} {used} of {most}")?;
    }
    Ok(())
}

fn say_lines(lines: &[Line]) {
    for Line { level, text, .. } in lines {
        say(format_args!("{level}: {}", indented(text, "    ")));
    }
}

fn text(arguments: &[Value]) -> String {
    let texts: Vec<_> = arguments.iter().map(Value::to_string).collect();
    texts.join(" ")
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("{text}: it is no JSON ({error}); a text needs quotes: '\"…\"'"))
}

fn object(text: &str) -> Result<String, String> {
    let is_object = text.trim_ascii_start().starts_with('{');
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) if is_object => Ok(text.to_owned()),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}
