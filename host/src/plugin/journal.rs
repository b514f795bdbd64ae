//! The last lines of one plugin, for `mixlab logs`: what it logged itself, and its failures. It outlives
//! reloads, and is there whatever level the log is written with.

use std::{collections::VecDeque, time::SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use crate::{error::TraceId, id, shorten::shortened};

/// How many lines are kept.
const MAX_LINES: usize = 1000;

/// How many bytes of texts are kept.
const MAX_BYTES: usize = 256 * 1024;

/// How much of a line is kept.
const MAX_LINE_CHARS: usize = 8192;

/// The lines, of which the oldest go.
#[derive(Debug)]
pub struct Journal {
    id: String,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Line>,
    bytes: usize,
    last_number: u64,
    last_call: CallNumber,
}

/// Which call of the plugin it is among those that logged something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallNumber(u64);

/// A line.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Counts the lines of the plugin, from 1.
    pub number: u64,
    /// When, in RFC 3339.
    pub at: String,
    /// `debug`, `info`, `warn` or `error`; `failed` where a call did.
    pub level: &'static str,
    /// During what it failed, e.g. an event's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during: Option<String>,
    /// What was said.
    pub text: String,
    /// Of the call that failed, in which it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The call in which it was said.
    #[serde(skip)]
    call: Option<CallNumber>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            id: id::random(),
            lines: Mutex::default(),
        }
    }
}

impl Journal {
    /// What it is told by from one that counts its lines from 1 anew: of another process, or of the time
    /// before the plugin was switched off.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A number for a call that logs something.
    pub fn next_call(&self) -> CallNumber {
        let mut lines = self.lines.lock();
        lines.last_call.0 += 1;
        lines.last_call
    }

    /// Keeps a line that a call has logged.
    pub fn logged(&self, call: CallNumber, level: &'static str, text: &str) {
        self.lines.lock().push(Line {
            call: Some(call),
            ..Line::new(level, text)
        });
    }

    /// Keeps what was printed.
    pub fn printed(&self, text: &str) {
        self.lines.lock().push(Line::new("info", text));
    }

    /// Keeps a failure.
    pub fn failed(&self, during: &str, reason: &str, trace_id: Option<TraceId>) {
        self.lines.lock().push(Line {
            during: Some(during.to_owned()),
            trace_id,
            ..Line::new("failed", reason)
        });
    }

    /// What the call has logged belongs to a failure.
    pub fn trace(&self, call: CallNumber, trace_id: TraceId) {
        let mut lines = self.lines.lock();
        let its = lines.kept.iter_mut().rev();
        for line in its.filter(|line| line.call == Some(call)) {
            line.trace_id = Some(trace_id);
        }
    }

    /// The lines behind the one of this number, in order; those of one failure, if its id is given.
    pub fn since(&self, number: u64, trace_id: Option<&str>) -> Vec<Line> {
        let lines = self.lines.lock();
        let is_wanted = |line: &&Line| {
            let is_of = |trace: &str| line.trace_id.is_some_and(|id| id.to_string() == trace);
            line.number > number && trace_id.is_none_or(is_of)
        };
        lines.kept.iter().filter(is_wanted).cloned().collect()
    }
}

impl Lines {
    fn push(&mut self, line: Line) {
        self.last_number += 1;
        self.bytes += line.text.len();
        self.kept.push_back(Line {
            number: self.last_number,
            ..line
        });
        while self.kept.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= oldest.text.len();
        }
    }
}

impl Line {
    fn new(level: &'static str, text: &str) -> Self {
        Self {
            number: 0,
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            level,
            during: None,
            text: shortened(text, MAX_LINE_CHARS),
            trace_id: None,
            call: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn what_a_call_logged_is_found_by_the_trace_of_its_failure() {
        let journal = Journal::default();
        let (good, bad) = (journal.next_call(), journal.next_call());
        journal.logged(bad, "info", "one");
        journal.logged(good, "info", "of another call");
        journal.logged(bad, "debug", "two");
        let trace = TraceId::random();
        journal.failed("vote", "it trapped", Some(trace));
        journal.trace(bad, trace);
        let found = journal.since(0, Some(&trace.to_string()));
        assert_eq!(texts(&found), ["one", "two", "it trapped"]);
        assert_eq!(journal.since(2, None).len(), 2);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_large() {
        let journal = Journal::default();
        for number in 0..=MAX_LINES {
            journal.printed(&number.to_string());
        }
        let kept = journal.since(0, None);
        assert_eq!((kept.len(), kept[0].number), (MAX_LINES, 2));
        let large = "x".repeat(10 * MAX_LINE_CHARS);
        for _ in 0..100 {
            journal.printed(&large);
        }
        let kept = journal.since(0, None);
        let bytes: usize = kept.iter().map(|line| line.text.len()).sum();
        assert!(bytes <= MAX_BYTES);
        assert_eq!(kept.last().map(|line| line.number), Some(1101));
    }
}
