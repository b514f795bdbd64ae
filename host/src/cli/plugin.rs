//! `mixlab plugin`: the plugins of the running server.

use clap::Subcommand;
use serde_json::Value;

use super::{Failure, Format, Global, control::Control};

#[derive(Subcommand)]
pub enum Plugin {
    /// List them: state, version, events, generation and the last failure.
    List {
        /// How to print them.
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
        let control = Control::find(global)?;
        let (status, format) = match self {
            Self::List { format } => (control.get("/api/v1/plugins")?, format),
            Self::Reload { format } => (control.post("/api/v1/plugins/reload")?, format),
        };
        match format {
            Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
            Format::Text => print(&status),
        }
        Ok(())
    }
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
