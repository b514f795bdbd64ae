//! `mixlab logs`: the last lines of a plugin of the running server.

use std::{
    io::{self, Write},
    thread::sleep,
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{Failure, Format, Global, control::Control, output::print};
use crate::{
    error::TraceId,
    harmless::{in_one_line, indented},
};

/// How often it is asked whether there are more.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct Logs {
    /// The plugin.
    #[arg(long, value_name = "NAME")]
    plugin: String,
    /// Only the lines of the call that failed with this id: what it logged, and why it failed.
    #[arg(long, value_name = "ID", value_parser = trace_id)]
    trace: Option<String>,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// How to print them; as JSON, each is one line.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// An id as clients and the log are told it, which may stand in a URL.
fn trace_id(text: &str) -> Result<String, String> {
    let id = TraceId::parse(text).map(|id| id.to_string());
    id.ok_or_else(|| "an id has 32 hexadecimal digits".to_owned())
}

impl Logs {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let control = Control::find(global)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !self.plugin.bytes().all(is_name) {
            return Err(Failure::from("no plugin has such a name"));
        }
        let trace = self.trace.as_ref();
        let trace = trace.map_or_else(String::new, |trace| format!("&trace={trace}"));
        let (mut after, mut journal) = (0, Value::Null);
        loop {
            let path = format!("/api/v1/plugins/{}/log?after={after}{trace}", self.plugin);
            let answer = control.get(&path)?;
            let is_other = journal != answer["journal"];
            journal = answer["journal"].clone();
            if is_other && after > 0 {
                // Its lines are counted from 1 anew.
                after = 0;
                continue;
            }
            let lines = answer["lines"].as_array().map_or(&[][..], Vec::as_slice);
            print(|out| lines.iter().try_for_each(|line| self.write(out, line)))?;
            let last = lines.last().and_then(|line| line["number"].as_u64());
            after = last.unwrap_or(after);
            if !self.follow {
                return self.none_found(after);
            }
            sleep(LOOK);
        }
    }

    /// A failure that is not there is no empty answer: it may be long ago, or of another plugin.
    fn none_found(&self, last: u64) -> Result<(), Failure> {
        match &self.trace {
            Some(trace) if last == 0 => Err(Failure::from(format!(
                "{}: none of its last lines is of {trace}",
                self.plugin
            ))),
            _ => Ok(()),
        }
    }

    fn write(&self, out: &mut dyn Write, line: &Value) -> io::Result<()> {
        if self.format == Format::Json {
            return writeln!(out, "{line}");
        }
        let text = |key: &str| in_one_line(line[key].as_str().unwrap_or_default());
        let mut head = format!("{}  {:<6}", text("at"), text("level"));
        if let Some(trace) = line["trace_id"].as_str() {
            head += &format!("  {}", in_one_line(trace));
        }
        if let Some(during) = line["during"].as_str() {
            head += &format!("  in {}:", in_one_line(during));
        }
        let said = line["text"].as_str().unwrap_or_default();
        writeln!(out, "{head}  {}", indented(said, "    "))
    }
}
