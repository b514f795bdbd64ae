//! `mixlab plugin`: the plugins of the running server.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use super::{Failure, Format, Global, control::Control};
use crate::inspection::{Change, Inspection, diff, inspect};

/// Exit code of a diff that may break clients.
const EXIT_BREAKING: u8 = 3;

#[derive(Subcommand)]
pub enum Plugin {
    /// List them: state, version, events, generation and the last failure.
    List {
        /// How to print them.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Print what a component asks for and what it handles.
    Inspect {
        /// The component.
        file: PathBuf,
        /// The JSON that it is configured with.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        plugin_config: String,
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
        /// The JSON that both are configured with.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        plugin_config: String,
        /// How to print it.
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Look at all files at once, then list.
    Reload {
        /// How to print them.
        #[arg(long, default_value = "text")]
        format: Format,
    },
}

impl Plugin {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::List { format } => show(&Control::find(global)?.get("/api/v1/plugins")?, format),
            Self::Reload { format } => show(
                &Control::find(global)?.post("/api/v1/plugins/reload")?,
                format,
            ),
            Self::Inspect {
                file,
                plugin_config,
                format,
            } => {
                let inspection = load(&file, &plugin_config)?;
                match format {
                    Format::Json => println!("{}", serde_json::to_string_pretty(&inspection)?),
                    Format::Text => print_inspection(&inspection),
                }
                Ok(())
            }
            Self::Diff {
                old,
                new,
                plugin_config,
                format,
            } => {
                let changes = diff(&load(&old, &plugin_config)?, &load(&new, &plugin_config)?);
                match format {
                    Format::Json => println!("{}", serde_json::to_string_pretty(&changes)?),
                    Format::Text => print_changes(&changes),
                }
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

fn load(file: &Path, config: &str) -> Result<Inspection, Failure> {
    super::runtime()?
        .block_on(inspect(file, config))
        .map_err(Failure::from)
}

fn print_inspection(plugin: &Inspection) {
    println!("{} {}", plugin.name, plugin.version);
    println!("    namespaces   {}", plugin.namespaces.join(", "));
    println!(
        "    needs        {}",
        if plugin.requests.is_empty() {
            "no grants".into()
        } else {
            plugin.requests.join(", ")
        }
    );
    println!(
        "    connections  {}",
        if plugin.connections {
            "watched"
        } else {
            "not watched"
        }
    );
    for event in &plugin.events {
        println!("event {}", event.name);
        println!("    access       {}", event.access);
        if !event.limits.is_empty() {
            println!("    limits       {}", event.limits.join(", "));
        }
        if let Some(bytes) = event.max_bytes {
            println!("    size         {bytes} bytes");
        }
        for (what, schema) in [
            ("arguments  ", &event.arguments),
            ("reply      ", &event.reply),
        ] {
            if let Some(schema) = schema {
                println!("    {what}  {}", schema.get());
            }
        }
    }
}

fn print_changes(changes: &[Change]) {
    if changes.is_empty() {
        println!("nothing changes");
    }
    for change in changes {
        println!(
            "{}  {}",
            if change.breaking { "BREAKS" } else { "      " },
            change.what
        );
    }
}

fn show(status: &Value, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(status)?),
        Format::Text => print(status),
    }
    Ok(())
}

fn print(status: &Value) {
    if let Some(error) = status["config_error"].as_str() {
        println!("mixlab.toml is not in force: {error}\n");
    }
    for plugin in status["plugins"].as_array().into_iter().flatten() {
        let text = |key: &str| plugin[key].as_str().unwrap_or("-");
        println!(
            "{}  {}  version {}  generation {}  {} calls  {} failures",
            text("name"),
            text("state"),
            text("version"),
            plugin["generation"],
            plugin["calls"],
            plugin["failures"]
        );
        let events = plugin["events"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        println!(
            "    events        {}",
            events.collect::<Vec<_>>().join(", ")
        );
        let addresses = plugin["paused_addresses"].as_u64().unwrap_or_default();
        if plugin["paused"] == true {
            println!("    paused        for everybody");
        } else if addresses > 0 {
            println!("    paused        for {addresses} of the clients' addresses");
        }
        if let Some(reason) = plugin["refusal"].as_str() {
            println!("    refused       {reason}");
        }
        if let Some(failure) = plugin["last_failure"].as_object() {
            let text = |key: &str| failure[key].as_str().unwrap_or("-");
            println!(
                "    last failure  {} in {}: {}",
                text("at"),
                text("during"),
                text("reason")
            );
        }
    }
}
