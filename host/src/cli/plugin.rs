//! `mixlab plugin`: the plugins of the running server.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use super::{Failure, Format, Global, control::Control, output::print, pull::Pull, waits::Waits};
use crate::{
    config::Config,
    harmless::{in_one_line, indented, listed},
    inspection::{Change, Inspection, Settings, Stored, diff, inspect},
};

/// Exit code of a diff that may break clients.
const EXIT_BREAKING: u8 = 3;

#[derive(Subcommand)]
pub(super) enum Plugin {
    /// List them: state, version, events, generation, calls, how long 99 of 100 take at most, and the last failure.
    List {
        /// How to print them.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Print what a component asks for and what it handles.
    Inspect {
        /// The component.
        file: PathBuf,
        /// The JSON that it is configured with, instead of its config in mixlab.toml.
        #[arg(long, value_name = "JSON")]
        plugin_config: Option<String>,
        /// How to print it.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Print what changes from one component to another; exits 3 if clients may break.
    Diff {
        /// The component that clients work with.
        old: PathBuf,
        /// The one to replace it.
        new: PathBuf,
        /// The JSON that both are configured with, instead of the config of one of them in
        /// mixlab.toml.
        #[arg(long, value_name = "JSON")]
        plugin_config: Option<String>,
        /// How to print it.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Fetch a component from an OCI registry, by its digest, and write it to a file.
    Pull(Pull),
    /// Look at all files at once, then list; or load one plugin's file anew.
    Reload {
        /// The plugin whose file is loaded anew, even if it is the same, or was rolled back.
        name: Option<String>,
        /// How to print them.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Have the version serve again that a plugin's serving one has replaced, until its file changes.
    Rollback {
        /// The plugin.
        name: String,
        /// How to print it.
        #[arg(long, default_value = "text")]
        format: Format,
    },
}

impl Plugin {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List { format } => {
                let status = Control::find(global)?.get("/api/v1/plugins")?;
                show(&status, format, write_status)
            }
            Self::Reload { name: None, format } => {
                let status = Control::find(global)?.post("/api/v1/plugins/reload")?;
                show(&status, format, write_status)
            }
            Self::Reload {
                name: Some(name),
                format,
            } => {
                let plugin = Control::find(global)?.post(&path_of(&name, "reload"))?;
                show(&plugin, format, write_plugin)
            }
            Self::Rollback { name, format } => {
                let plugin = Control::find(global)?.post(&path_of(&name, "rollback"))?;
                show(&plugin, format, write_plugin)
            }
            Self::Pull(pull) => pull.run(global),
            Self::Inspect {
                file,
                plugin_config,
                format,
            } => {
                say_waits()?;
                let settings = settings(global, &[&file], plugin_config)?;
                show(&load(&file, &settings)?, format, write_inspection)
            }
            Self::Diff {
                old,
                new,
                plugin_config,
                format,
            } => {
                say_waits()?;
                let mut settings = settings(global, &[&new, &old], plugin_config)?;
                // Both would have what only one of them has stored.
                settings.own = None;
                let changes = diff(&load(&old, &settings)?, &load(&new, &settings)?);
                show(&changes, format, write_changes)?;
                let breaking = changes.iter().filter(|change| change.breaking).count();
                if breaking == 0 {
                    return Ok(());
                }
                let reason = format!("{breaking} of the changes may break clients");
                Err(Failure {
                    code: EXIT_BREAKING,
                    reason,
                })
            }
        }
    }
}

/// Where the API has what is done with a plugin.
fn path_of(name: &str, what: &str) -> String {
    let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/api/v1/plugins/{name}/{what}")
}

/// Says what is waited for, as there is no log.
fn say_waits() -> Result<(), Failure> {
    let subscriber = tracing_subscriber::registry().with(Waits);
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

/// What `mixlab.toml` says of the plugin that one of these files is of. There need not be one.
fn settings(
    global: &Global,
    files: &[&Path],
    plugin_config: Option<String>,
) -> Result<Settings, Failure> {
    let config = Config::load_if_there(&global.config, global.overrides());
    let mut settings = Settings::of(&config.map_err(Failure::bad_input)?, files);
    if let Some(json) = plugin_config {
        settings.config = json;
    }
    Ok(settings)
}

fn load(file: &Path, settings: &Settings) -> Result<Inspection, Failure> {
    super::runtime()?
        .block_on(inspect(file, settings))
        .map_err(Failure::from)
}

/// Prints data as JSON, or as `write_text` writes it for people.
fn show<T: Serialize + ?Sized>(
    data: &T,
    format: Format,
    write_text: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let json = serde_json::to_string_pretty(data)?;
            print(|out| writeln!(out, "{json}"))?;
        }
        Format::Text => print(|out| write_text(out, data))?,
    }
    Ok(())
}

fn write_inspection(out: &mut dyn Write, plugin: &Inspection) -> io::Result<()> {
    let (name, version) = (in_one_line(&plugin.name), in_one_line(&plugin.version));
    writeln!(out, "{name} {version}")?;
    writeln!(out, "    namespaces   {}", listed(&plugin.namespaces))?;
    writeln!(
        out,
        "    needs        {}",
        if plugin.requests.is_empty() {
            "no grants".into()
        } else {
            listed(&plugin.requests)
        }
    )?;
    if !plugin.may_request.is_empty() {
        writeln!(out, "    may need     {}", listed(&plugin.may_request))?;
    }
    writeln!(
        out,
        "    connections  {}",
        if plugin.connections {
            "watched"
        } else {
            "not watched"
        }
    )?;
    if !plugin.filters.is_empty() {
        writeln!(out, "    filters      {}", listed(&plugin.filters))?;
    }
    if plugin.webhooks {
        writeln!(out, "    webhooks     taken")?;
    }
    if plugin.data_version > 0 {
        writeln!(out, "    data         version {}", plugin.data_version)?;
    }
    match &plugin.stored {
        Some(Stored::Fits(version)) => writeln!(out, "    stored       version {version}")?,
        Some(Stored::Migrates(migration)) => writeln!(out, "    stored       {migration}")?,
        Some(Stored::Unfit(reason)) => writeln!(out, "    stored       {}", in_one_line(reason))?,
        None => {}
    }
    for event in &plugin.events {
        writeln!(out, "event {}", in_one_line(&event.name))?;
        writeln!(out, "    access       {}", in_one_line(&event.access))?;
        if let Some(key) = &event.serial_by {
            writeln!(out, "    serial by    {}", in_one_line(key))?;
        }
        if !event.limits.is_empty() {
            writeln!(out, "    limits       {}", listed(&event.limits))?;
        }
        if let Some(on_excess) = event.on_excess {
            writeln!(out, "    over limits  {on_excess}")?;
        }
        if let Some(bytes) = event.max_bytes {
            writeln!(out, "    size         {bytes} bytes")?;
        }
        for (what, schema) in [
            ("arguments  ", &event.arguments),
            ("reply      ", &event.reply),
        ] {
            if let Some(schema) = schema {
                writeln!(out, "    {what}  {}", in_one_line(schema.get()))?;
            }
        }
    }
    Ok(())
}

fn write_changes(out: &mut dyn Write, changes: &Vec<Change>) -> io::Result<()> {
    if changes.is_empty() {
        writeln!(out, "nothing changes")?;
    }
    for change in changes {
        writeln!(
            out,
            "{}  {}",
            if change.breaking { "BREAKS" } else { "      " },
            in_one_line(&change.what)
        )?;
    }
    Ok(())
}

fn write_status(out: &mut dyn Write, status: &Value) -> io::Result<()> {
    if let Some(error) = status["config_error"].as_str() {
        writeln!(out, "mixlab.toml is not in force: {}\n", set_in(error))?;
    }
    if let Some(error) = status["certificate_error"].as_str() {
        writeln!(out, "the certificates are refused: {}\n", set_in(error))?;
    }
    if let Some(reason) = status["config_waiting"].as_str() {
        writeln!(out, "mixlab.toml is waited for: {}\n", set_in(reason))?;
    }
    let plugins = status["plugins"].as_array();
    plugins
        .into_iter()
        .flatten()
        .try_for_each(|plugin| write_plugin(out, plugin))
}

fn write_plugin(out: &mut dyn Write, plugin: &Value) -> io::Result<()> {
    let text = |key: &str| in_one_line(plugin[key].as_str().unwrap_or("-"));
    let name = text("name");
    writeln!(
        out,
        "{}  {}  version {}  generation {}  {} calls  {} failures{}",
        text("name"),
        text("state"),
        text("version"),
        plugin["generation"],
        plugin["calls"],
        plugin["failures"],
        match plugin["p99_ms"].as_f64() {
            Some(p99) => format!("  p99 {p99} ms"),
            None => String::new(),
        }
    )?;
    let names = |key: &str| {
        let names = plugin[key].as_array().into_iter().flatten();
        listed(names.filter_map(Value::as_str))
    };
    writeln!(out, "    events        {}", names("events"))?;
    let filters = names("filters");
    if !filters.is_empty() {
        writeln!(out, "    filters       {filters}")?;
    }
    if plugin["webhooks"] == true {
        writeln!(out, "    webhooks      /hooks/{}", text("name"))?;
    }
    let addresses = plugin["paused_addresses"].as_u64().unwrap_or_default();
    if plugin["paused"] == true {
        writeln!(out, "    paused        for everybody")?;
    } else if addresses > 0 {
        writeln!(
            out,
            "    paused        for {addresses} of the clients' addresses"
        )?;
    }
    if let Some(version) = plugin["rollback_to"]["version"].as_str() {
        let version = in_one_line(version);
        writeln!(out, "    before        version {version}, to roll back to")?;
    }
    if plugin["state"] == "rolled-back" {
        writeln!(
            out,
            "    rolled back   until its file changes; mixlab plugin reload {name} loads the file again"
        )?;
    }
    if let Some(reason) = plugin["waiting"].as_str() {
        writeln!(out, "    waiting       {}", set_in(reason))?;
    }
    if let Some(reason) = plugin["refusal"].as_str() {
        writeln!(out, "    refused       {}", set_in(reason))?;
    }
    if let Some(failure) = plugin["last_failure"].as_object() {
        let text = |key: &str| failure[key].as_str().unwrap_or("-");
        writeln!(
            out,
            "    last failure  {} in {}: {}",
            in_one_line(text("at")),
            in_one_line(text("during")),
            set_in(text("reason"))
        )?;
        if let Some(trace) = failure["trace_id"].as_str() {
            writeln!(
                out,
                "    its lines     mixlab logs --plugin {name} --trace {}",
                in_one_line(trace)
            )?;
        }
    }
    Ok(())
}

/// A reason of many lines, none of which passes for another plugin or another property.
fn set_in(reason: &str) -> String {
    indented(reason, "                  ")
}
