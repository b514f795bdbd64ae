//! The last lines of the log, for whoever looks on while the server is tried out.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::shorten::shortened;

/// So many lines are kept.
const MAX_LINES: usize = 500;

/// So much is kept of each text of a line.
const MAX_CHARS: usize = 4096;

/// And of so many fields.
const MAX_FIELDS: usize = 16;

/// The last lines. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct RecentLog(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    kept: VecDeque<Arc<Line>>,
    /// How many there ever were.
    count: u64,
}

/// A line of the log.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// The how manieth it is, counted from 1.
    pub number: u64,
    /// When it was written, in milliseconds since 1970.
    at: u64,
    level: &'static str,
    /// Whose it is: `plugin`, or a module of the host.
    target: &'static str,
    message: String,
    /// What else it says.
    fields: Map<String, Value>,
}

impl RecentLog {
    /// The lines that are kept of those behind the `number`th, and how many of them are not kept any more.
    pub(crate) fn after(&self, number: u64) -> (Vec<Arc<Line>>, u64) {
        let lines = self.0.lock();
        // Who saw more than there were saw those of a former run.
        let number = if number > lines.count { 0 } else { number };
        let gone = lines.count - lines.kept.len() as u64;
        let kept = lines.kept.iter().filter(|line| line.number > number);
        (kept.cloned().collect(), gone.saturating_sub(number))
    }

    fn push(&self, mut line: Line) {
        let mut lines = self.0.lock();
        lines.count += 1;
        line.number = lines.count;
        if lines.kept.len() == MAX_LINES {
            lines.kept.pop_front();
        }
        lines.kept.push_back(Arc::new(line));
    }
}

impl<S: Subscriber> Layer<S> for RecentLog {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.push(Line {
            number: 0,
            at: since.map_or(0, |since| since.as_millis() as u64),
            level: metadata.level().as_str(),
            target: metadata.target(),
            message: said.message,
            fields: said.fields,
        });
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn note(&mut self, field: &Field, value: Value) {
        if self.fields.len() < MAX_FIELDS {
            self.fields.insert(field.name().to_owned(), value);
        }
    }

    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            _ => self.note(field, text.into()),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, shortened(&format_args!("{value:?}"), MAX_CHARS));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, shortened(value, MAX_CHARS));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more_of_each_than_its_beginning() {
        let log = RecentLog::default();
        let subscriber = registry().with(log.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "plugin", plugin = "chat", calls = 7_u64, "{}", "x".repeat(MAX_CHARS + 1));
            for number in 2..=MAX_LINES + 1 {
                tracing::info!("line {number}");
            }
        });
        let (lines, gone) = log.after(0);
        assert_eq!((lines.len(), gone), (MAX_LINES, 1));
        assert_eq!(lines[0].message, "line 2");
        let (lines, gone) = log.after(MAX_LINES as u64);
        assert_eq!((lines.len(), gone), (1, 0));
        assert_eq!(lines[0].number, MAX_LINES as u64 + 1);
        // Of a former run.
        assert_eq!(log.after(u64::MAX).0.len(), MAX_LINES);
    }

    #[test]
    fn a_line_has_its_fields() {
        let log = RecentLog::default();
        let subscriber = registry().with(log.clone());
        tracing::subscriber::with_default(subscriber, || {
            let plugin = "x".repeat(MAX_CHARS + 1);
            tracing::warn!(target: "plugin", plugin, calls = 7_u64, error = %"why", "it failed");
        });
        let (lines, _) = log.after(0);
        let line = &lines[0];
        assert_eq!((line.level, line.target), ("WARN", "plugin"));
        assert_eq!(line.message, "it failed");
        assert_eq!(line.fields["calls"], 7);
        assert_eq!(line.fields["error"], "why");
        let plugin = line.fields["plugin"].as_str().unwrap_or_default();
        assert_eq!(plugin.chars().count(), MAX_CHARS + 1);
        assert!(plugin.ends_with('…'));
    }
}
