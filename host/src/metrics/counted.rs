//! What was counted of one plugin, for operators.

use std::collections::BTreeMap;

use prometheus::{IntCounterVec, core::Collector};
use serde::Serialize;

use super::{EVENT, Metrics, PLUGIN};

/// What `/metrics` has of one plugin since the server started.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Counted {
    /// Events, by declared name and outcome: `ok`, `rejected`, `dropped` or the code of the error.
    outcomes: BTreeMap<String, BTreeMap<String, u64>>,
    /// Calls that it did not answer, by reason.
    failures_by_reason: BTreeMap<String, u64>,
    /// Calls that ran again, because what they had read had changed.
    repeated_calls: u64,
    /// Timers whose attempts have all failed.
    timers_given_up: u64,
}

/// What `/metrics` has of limits since the server started.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Hits {
    /// Events and connections over a rate limit, by its scope.
    rate_limited: BTreeMap<String, u64>,
    /// Connections that came when all that there may be, or that their address may have, were taken.
    refused_connections: u64,
}

impl Metrics {
    /// What was counted of a plugin. It copies all that is counted.
    pub(crate) fn counted_of(&self, plugin: &str) -> Counted {
        let mut counted = Counted::default();
        for ([name, event, outcome], count) in counts(&self.events, [PLUGIN, EVENT, "outcome"]) {
            if name == plugin && count > 0 {
                let outcomes = counted.outcomes.entry(event).or_default();
                outcomes.insert(outcome, count);
            }
        }
        for ([name, reason], count) in counts(&self.call_failures, [PLUGIN, "reason"]) {
            if name == plugin {
                counted.failures_by_reason.insert(reason, count);
            }
        }
        let its = |counters: &IntCounterVec| {
            let counts = counts(counters, [PLUGIN]).into_iter();
            let mut its = counts.filter(|([name], _)| name == plugin);
            its.next().map_or(0, |(_, count)| count)
        };
        counted.repeated_calls = its(&self.repeated);
        counted.timers_given_up = its(&self.timers_given_up);
        counted
    }

    /// Which limits were hit.
    pub(crate) fn hits(&self) -> Hits {
        let by_scope = counts(&self.rate_limited, ["scope"]).into_iter();
        Hits {
            rate_limited: by_scope.map(|([scope], count)| (scope, count)).collect(),
            refused_connections: self.refused_connections.get(),
        }
    }
}

/// The counts, each with its values of these labels.
fn counts<const LABELS: usize>(
    counters: &IntCounterVec,
    labels: [&str; LABELS],
) -> Vec<([String; LABELS], u64)> {
    let mut counts = Vec::new();
    for family in counters.collect() {
        for metric in family.get_metric() {
            let value = |label: &str| {
                let mut pairs = metric.get_label().iter();
                let pair = pairs.find(|pair| pair.name() == label);
                pair.map(|pair| pair.value().to_owned()).unwrap_or_default()
            };
            counts.push((labels.map(value), metric.get_counter().get_value() as u64));
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_of_one_plugin_is_not_that_of_another() {
        let metrics = Metrics::default();
        metrics.calls_of("b").failed("wall");
        assert_eq!(metrics.counted_of("a"), Counted::default());
        metrics.event_ok("a", "vote").inc_by(2);
        metrics.event_ok("a", "never");
        metrics.event_failed("a", "vote", "rate_limited");
        metrics.event_failed("b", "vote", "rate_limited");
        metrics.calls_of("a").failed("trap");
        metrics.call_repeated("a");
        let counted = metrics.counted_of("a");
        let vote = [("ok".to_owned(), 2), ("rate_limited".to_owned(), 1)];
        let expected = Counted {
            outcomes: [("vote".to_owned(), vote.into())].into(),
            failures_by_reason: [("trap".to_owned(), 1)].into(),
            repeated_calls: 1,
            timers_given_up: 0,
        };
        assert_eq!(counted, expected);
    }
}
