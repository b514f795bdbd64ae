//! What went wrong, counted.

use std::{collections::BTreeMap, ops::AddAssign};

use crate::report::Report;

/// How many different reasons are shown, and how much of each.
const MAX_REASONS: usize = 20;
const REASON_CHARS: usize = 200;

/// Stands for the reasons beyond that.
const OTHERS: &str = "something else";

/// Faults of one socket, or of all. None of them may happen.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Connections that ended though nobody meant them to.
    pub disconnects: u64,
    /// Answers that never came.
    pub lost: u64,
    /// Answers that came twice, or to a question that nobody asked.
    pub double: u64,
    /// Answers that came before an earlier one.
    pub out_of_order: u64,
    /// Answers that say something else than they should.
    pub wrong: u64,
    /// Errors that the server answered with.
    pub refused: u64,
    /// Why, and how often.
    reasons: BTreeMap<String, u64>,
}

impl Faults {
    /// A connection ended.
    pub fn disconnected(&mut self, reason: &anyhow::Error) {
        self.disconnects += 1;
        self.because(format!("{reason:#}"));
    }

    /// An answer is an error, or says something else than it should.
    pub fn wrong_answer(&mut self, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        match error_code(&text) {
            Some(code) => {
                self.refused += 1;
                self.because(format!("the error {code}"));
            }
            None => {
                self.wrong += 1;
                self.because(text.chars().take(REASON_CHARS).collect());
            }
        }
    }

    fn because(&mut self, reason: String) {
        self.add_reason(reason, 1);
    }

    fn add_reason(&mut self, reason: String, count: u64) {
        let room = self.reasons.len() < MAX_REASONS || self.reasons.contains_key(&reason);
        let reason = if room { reason } else { OTHERS.to_owned() };
        *self.reasons.entry(reason).or_default() += count;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.disconnects + self.lost + self.double + self.out_of_order + self.wrong + self.refused
    }

    /// Puts them into a report, and their reasons onto stderr.
    pub fn report(&self, report: &mut Report) {
        report.set("disconnects", self.disconnects);
        report.set("lost", self.lost);
        report.set("double", self.double);
        report.set("out_of_order", self.out_of_order);
        report.set("wrong_answers", self.wrong);
        report.set("errors", self.refused);
        self.explain();
        report.add_faults(self.total());
    }

    /// Their reasons, on stderr.
    pub fn explain(&self) {
        for (reason, count) in &self.reasons {
            eprintln!("{count} × {reason}");
        }
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.disconnects += other.disconnects;
        self.lost += other.lost;
        self.double += other.double;
        self.out_of_order += other.out_of_order;
        self.wrong += other.wrong;
        self.refused += other.refused;
        for (reason, count) in other.reasons {
            self.add_reason(reason, count);
        }
    }
}

/// The code in `{"error":{"code":"…",…}}`.
pub fn error_code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(r#"{"error":{"code":""#)?;
    rest.split('"').next()
}
